//! Finds the peers that are not Rust: each is linked where its Debian package is installed, and is a row that says so where
//! it is not.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_zmq, has_nng, has_boost)");
    println!("cargo::rerun-if-changed=src/peer/boost.cpp");
    for header in ["zmq.h", "nng/nng.h", "boost/interprocess/ipc/message_queue.hpp"] {
        println!("cargo::rerun-if-changed=/usr/include/{header}");
    }
    if pkg_config::Config::new().atleast_version("4").probe("libzmq").is_ok() {
        println!("cargo::rustc-cfg=has_zmq");
    }
    if Path::new("/usr/include/nng/nng.h").exists() {
        println!("cargo::rustc-link-lib=nng");
        println!("cargo::rustc-cfg=has_nng");
    }
    if Path::new("/usr/include/boost/interprocess/ipc/message_queue.hpp").exists() {
        cc::Build::new().cpp(true).opt_level(3).file("src/peer/boost.cpp").compile("peers_boost");
        println!("cargo::rustc-link-lib=rt");
        println!("cargo::rustc-cfg=has_boost");
    }
}
