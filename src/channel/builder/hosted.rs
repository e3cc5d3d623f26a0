//! A ring in a segment of the `shared_memory` crate.

use super::*;
use shared_memory::Shmem;

pub(super) struct Host(Shmem);

// SAFETY: a mapping belongs to no thread; the crate only forgot to say so.
unsafe impl Send for Host {}
// SAFETY: a shared `Host` gives away nothing but an address that never changes.
unsafe impl Sync for Host {}

impl Host {
    pub(super) fn new(host: Shmem) -> Result<Self, OpenError> {
        if host.len() < header::LENGTH || !host.as_ptr().addr().is_multiple_of(4096) {
            return Err(OpenError::NotARing { why: "the segment is too small" });
        }
        Ok(Self(host))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.0.as_ptr()).expect("a mapping is never at address 0")
    }

    pub(super) fn header(&self) -> [u8; header::LENGTH] {
        let mut bytes = [0; header::LENGTH];
        // SAFETY: the segment is at least that long (`new`).
        unsafe { copy::out_of_shared(self.base().as_ptr(), &mut bytes) };
        bytes
    }

    /// Clears the control area and writes the header.
    pub(super) fn write(&self, header: &[u8; header::LENGTH], control_length: usize) {
        // SAFETY: `host_in` has checked the length.
        unsafe { copy::into_shared(&vec![0; control_length], self.base().as_ptr()) };
        // SAFETY: the segment is at least that long (`new`).
        unsafe { copy::into_shared(header, self.base().as_ptr()) };
    }
}

pub(super) fn inner(builder: &Builder, header: Header, host: Host) -> Result<Inner, OpenError> {
    let control = host.base();
    // SAFETY: the segment holds the control area and the data area (`host_in`, `open_hosted`).
    let data = unsafe { control.add(header.control_length as usize) };
    // SAFETY: as above; the mapping lives in the box.
    let memory = unsafe { memory(&header, control, data, Box::new(host)) };
    Ok(builder.inner(memory, header, Home::Elsewhere, Scope::Shared))
}
