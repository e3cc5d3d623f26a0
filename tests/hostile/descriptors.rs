//! Descriptors that are not what they seem.

use super::*;

const HEADER: usize = 128;

/// A memfd of this length that begins so, with these seals.
fn memfd(content: &[u8], length: usize, seals: SealFlags) -> OwnedFd {
    let file = File::from(memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
    file.set_len(length as u64).unwrap();
    file.write_all_at(&content[..content.len().min(length)], 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The bytes of a small new ring.
fn content() -> Vec<u8> {
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
    let mut content = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

fn open_passed(fd: impl Into<OwnedFd>) -> Result<Ring, OpenError> {
    ringpost::unnamed().from_fd(fd.into())
}

#[test]
fn only_a_sealed_memfd_that_can_be_written_to_is_taken() {
    let (content, mut refused) = (content(), Vec::<OwnedFd>::new());
    for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE, SealFlags::SEAL] {
        refused.push(memfd(&content, content.len(), seals));
    }
    refused.push(memfd(&content, content.len(), FIXED | SealFlags::WRITE));
    refused.push(memfd(&content, content.len(), FIXED | SealFlags::FUTURE_WRITE));
    let good = memfd(&content, content.len(), FIXED);
    let again = format!("/proc/self/fd/{}", good.as_raw_fd());
    refused.push(File::open(&again).unwrap().into());
    refused.push(rustix::fs::open(&again, OFlags::PATH, Mode::empty()).unwrap());
    for path in ["/dev/null", "/dev/zero", "/dev/shm", "/proc/self/status"] {
        refused.push(File::open(path).unwrap().into());
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    refused.extend([reader.into(), writer.into(), left.into(), right.into()]);
    for (index, fd) in refused.into_iter().enumerate() {
        let error = open_passed(fd).expect_err(&format!("descriptor {index}"));
        assert!(matches!(error, OpenError::Segment(_) | OpenError::NotARing { .. }), "{index}: {error:?}");
    }
    open_passed(good).unwrap();
}

#[test]
fn a_passed_ring_that_is_shorter_by_any_number_of_bytes_is_refused() {
    let content = content();
    for length in 0..content.len() {
        let error = open_passed(memfd(&content[..HEADER], length, FIXED)).unwrap_err();
        let short = matches!(&error, OpenError::Segment(SegmentError::TooShort { found, .. }) if *found == length as u64);
        assert!(
            short || length < HEADER && matches!(error, OpenError::NotARing { .. }),
            "{length}: {error:?}"
        );
    }
    open_passed(memfd(&content, content.len(), FIXED)).unwrap();
}

#[test]
fn a_passed_ring_with_any_bit_of_its_header_flipped_is_refused() {
    let content = content();
    for bit in 0..HEADER * 8 {
        let mut flipped = content[..HEADER].to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open_passed(memfd(&flipped, content.len(), FIXED)).expect_err(&format!("bit {bit}"));
        assert!(matches!(error, OpenError::NotARing { .. } | OpenError::Mismatch { .. }), "{bit}: {error:?}");
    }
}

#[test]
fn a_passed_header_that_lies_with_a_right_checksum_is_refused_or_leads_to_errors() {
    let (content, mut noise, mut opened) = (content(), Noise(0x11e5), 0);
    for _ in 0..if common::long() { 200_000 } else { 2000 } {
        let mut lie = content.clone();
        for _ in 0..1 + noise.below(3) {
            let at = 16 + 4 * noise.below(10) as usize;
            let any = noise.below(1 << 32);
            let value = noise.one_of(&[0, 1, 2, 3, 255, 256, 4080, 4096, 8192, 9216, 12_288, u64::MAX, any]);
            lie[at..at + 4].copy_from_slice(&(value as u32).to_ne_bytes());
        }
        common::seal(&mut lie);
        let Ok(ring) = open_passed(memfd(&lie, lie.len(), FIXED)) else { continue };
        opened += 1;
        let message = vec![1; ring.info().longest_message];
        let _ = ring.multi_sender().map(|mut sender| sender.try_send(&message));
        let _ = ring.sender().map(|mut sender| sender.try_send(&message));
        let _ = ring.receiver().map(|mut receiver| receiver.try_recv().map(|message| message.to_vec()));
    }
    assert!(opened > 0);
}
