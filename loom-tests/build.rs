//! Tells the product's source files that they are compiled for the models.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(ringpost_loom)");
    println!("cargo:rustc-cfg=ringpost_loom");
}
