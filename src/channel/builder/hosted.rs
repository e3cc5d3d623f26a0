//! A ring in a segment of the `shared_memory` crate.

use super::*;
use shared_memory::Shmem;

impl Builder {
    /// Makes a ring in a segment that the program has through the `shared_memory` crate. The ring fills the segment: its
    /// capacity is the largest power of two that fits, and a capacity set here is ignored. The segment stays the
    /// program's: nobody else may write to it, and its memory is not guaranteed to be allocated (a full /dev/shm can
    /// still end the process with SIGBUS).
    ///
    /// # Errors
    /// [`OpenError::Setting`] when the segment is too small for a ring.
    pub fn host_in(&self, host: shared_memory::Shmem) -> Result<Ring, OpenError> {
        let slots = self.kind().slots();
        let control = layout::control_length(slots, 4096) as u64;
        let room = (host.len() as u64).saturating_sub(control);
        if room < LEAST_CAPACITY {
            let least = control + LEAST_CAPACITY;
            return Err(OpenError::Setting {
                what: "segment",
                given: host.len() as u64,
                least,
                most: MOST_CAPACITY,
            });
        }
        let capacity = 1 << room.ilog2();
        let header = self.clone().capacity(capacity).header(false)?;
        let host = Host::new(host)?;
        host.write(&header.encode(), header.control_length as usize);
        let inner = inner(self, header, host)?;
        inner.memory.start_at(self.start);
        Ok(Ring::new(Arc::new(inner)))
    }

    /// Opens a ring that another process has made in a segment with [`host_in`](Builder::host_in).
    ///
    /// # Errors
    /// [`OpenError::NotARing`]; [`OpenError::Mismatch`].
    pub fn open_hosted(&self, host: shared_memory::Shmem) -> Result<Ring, OpenError> {
        let host = Host::new(host)?;
        let header = Header::decode(&host.header())?;
        self.accept(&header)?;
        if header.geometry.mirrored() || (host.len() as u64) < header.segment_length() {
            return Err(OpenError::NotARing { why: "its header describes more than the segment holds" });
        }
        Ok(Ring::new(Arc::new(inner(self, header, host)?)))
    }
}

struct Host(Shmem);

// SAFETY: a mapping belongs to no thread; the crate only forgot to say so.
unsafe impl Send for Host {}
// SAFETY: a shared `Host` gives away nothing but an address that never changes.
unsafe impl Sync for Host {}

impl Host {
    fn new(host: Shmem) -> Result<Self, OpenError> {
        if host.len() < header::LENGTH || !host.as_ptr().addr().is_multiple_of(4096) {
            return Err(OpenError::NotARing { why: "the segment is too small" });
        }
        Ok(Self(host))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.0.as_ptr()).expect("a mapping is never at address 0")
    }

    fn header(&self) -> [u8; header::LENGTH] {
        let mut bytes = [0; header::LENGTH];
        // SAFETY: the segment is at least that long (`new`).
        unsafe { copy::out_of_shared(self.base().as_ptr(), &mut bytes) };
        bytes
    }

    /// Clears the control area and writes the header.
    fn write(&self, header: &[u8; header::LENGTH], control_length: usize) {
        // SAFETY: `host_in` has checked the length.
        unsafe { copy::into_shared(&vec![0; control_length], self.base().as_ptr()) };
        // SAFETY: the segment is at least that long (`new`).
        unsafe { copy::into_shared(header, self.base().as_ptr()) };
    }
}

fn inner(builder: &Builder, header: Header, host: Host) -> Result<Inner, OpenError> {
    let control = host.base();
    // SAFETY: the segment holds the control area and the data area (`host_in`, `open_hosted`).
    let data = unsafe { control.add(header.control_length as usize) };
    // SAFETY: as above; the mapping lives in the box.
    let memory = unsafe { memory(&header, control, data, Box::new(host)) };
    Ok(builder.inner(memory, header, Home::Elsewhere, Scope::Shared))
}
