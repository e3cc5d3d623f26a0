//! Memory that both measuring processes share: made before the fork, inherited by it.

use std::fs::File;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Two of these never share a cache line, nor a pair of lines that is fetched together.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Line<T>(pub T);

/// A zeroed shared mapping of the size asked for, page-aligned.
pub struct SharedMemory {
    map: MmapRaw,
}

impl SharedMemory {
    /// Maps `size` bytes of anonymous memory.
    pub fn new(size: usize) -> Result<Self> {
        let file: File = memfd_create("ringpost-bench", MFdFlags::MFD_CLOEXEC)
            .with_context(|| "cannot make shared memory (memfd_create)")?
            .into();
        file.set_len(size as u64).with_context(|| format!("cannot size shared memory to {size} bytes"))?;
        let map = MmapOptions::new()
            .len(size)
            .map_raw(&file)
            .with_context(|| format!("cannot map {size} bytes of shared memory"))?;
        Ok(Self { map })
    }

    /// The first byte.
    pub fn base(&self) -> NonNull<u8> {
        NonNull::new(self.map.as_mut_ptr()).expect("a mapping is never at address zero")
    }

    /// Bytes mapped.
    pub fn size(&self) -> usize {
        self.map.len()
    }
}

/// A value of type `T` in shared memory.
pub struct Shared<T> {
    memory: SharedMemory,
    kind: std::marker::PhantomData<T>,
}

/// Types that are valid when all their bytes are zero and that other processes may change under a `&` reference.
///
/// # Safety
/// Every field is an atomic, or lies in an `UnsafeCell`, and is valid when zeroed.
pub unsafe trait Shareable {}

impl<T: Shareable> Shared<T> {
    /// A zeroed `T`.
    pub fn zeroed() -> Result<Self> {
        const { assert!(align_of::<T>() <= 4096) };
        Ok(Self { memory: SharedMemory::new(size_of::<T>())?, kind: std::marker::PhantomData })
    }
}

impl<T: Shareable> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping holds `size_of::<T>()` bytes at a page boundary and lives as long as `self`;
        // `Shareable` says that zeroes are a `T` and that changes by the other process are allowed.
        unsafe { self.memory.base().cast::<T>().as_ref() }
    }
}
