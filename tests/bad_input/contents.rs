//! Files that hold something else than a ring of this version, boot, shape or type.

use super::*;

const HEADER: usize = 128;

fn header(path: &Path) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn patch(path: &Path, offset: usize, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset as u64).unwrap();
}

/// Overwrites a field of the header, and makes the checksum right again.
fn forge(path: &Path, offset: usize, field: &[u8]) {
    let mut bytes = header(path);
    bytes[offset..offset + field.len()].copy_from_slice(field);
    seal(&mut bytes);
    patch(path, 0, &bytes);
}

/// Numbers without an order that are the same in each run.
struct Noise(u64);

impl Noise {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.number() >> 32) as u8).collect()
    }
}

#[test]
fn a_truncated_ring_is_refused_at_every_length() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let whole = fs::metadata(&path).unwrap().len();
    let truncate = |length| OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    for length in [whole - 1, whole - 4096, 4097, 4096, 200, HEADER as u64] {
        truncate(length);
        assert_error!(
            scene.refused_at("ring"),
            OpenError::Segment(SegmentError::TooShort { found, needed }) if (*found, *needed) == (length, whole),
            format!("{length} bytes"), format!("have {whole}"), "truncated"
        );
    }
    for length in (0..HEADER as u64).rev() {
        truncate(length);
        assert_error!(
            scene.refused_at("ring"),
            OpenError::NotARing { .. },
            "not a ring",
            "shorter than a header"
        );
    }
}

#[test]
fn garbage_of_any_length_is_no_ring() {
    let scene = Scene::new();
    let mut noise = Noise(0x5eed);
    for length in [1, 8, 127, 128, 129, 4096, 20_000] {
        for garbage in [noise.bytes(length), vec![0; length], vec![0xff; length]] {
            fs::write(scene.path("ring"), garbage).unwrap();
            assert_error!(scene.refused_at("ring"), OpenError::NotARing { .. }, "not a ring");
            assert_error!(
                scene.refused(|| scene.builder("ring").open_or_create()),
                OpenError::NotARing { .. },
                "not a ring"
            );
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let sound = header(&path);
    for bit in 0..HEADER * 8 {
        let mut flipped = sound;
        flipped[bit / 8] ^= 1 << (bit % 8);
        patch(&path, 0, &flipped);
        let error = scene.refused_at("ring");
        match (bit / 8, &error) {
            (8..12, OpenError::Mismatch { what: "layout version", .. }) => {}
            (12..16, OpenError::Mismatch { what: "byte order", .. }) => {}
            (0..8 | 16.., OpenError::NotARing { .. }) => {}
            _ => panic!("bit {bit}: {error:?}"),
        }
    }
    patch(&path, 0, &sound);
    scene.builder("ring").open().unwrap();
}

#[test]
fn a_header_that_lies_with_a_right_checksum_is_refused_or_true() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let (sound, mut noise) = (header(&path), Noise(0xf0f0));
    for round in 0..500 {
        let mut lie = sound;
        let word = 16 + 4 * (noise.number() % 10) as usize;
        let value = match round % 3 {
            0 => noise.number() as u32,
            1 => 1 << (noise.number() % 32),
            _ => (noise.number() % 260) as u32,
        };
        lie[word..word + 4].copy_from_slice(&value.to_ne_bytes());
        seal(&mut lie);
        patch(&path, 0, &lie);
        match builder("ring").directory(&scene.directory).open() {
            Ok(ring) => assert!(ring.info().capacity == 4096 && ring.info().longest_message <= 4080),
            Err(OpenError::NotARing { .. } | OpenError::Segment(SegmentError::TooShort { .. })) => {}
            Err(other) => panic!("{value:#x} at {word}: {other:?}"),
        }
    }
}

#[test]
fn a_ring_whose_words_are_garbage_gives_errors_and_no_panic() {
    let scene = Scene::new();
    let mut noise = Noise(0xbad);
    for round in 0..40 {
        let wanted = scene.builder("ring").lifetime(Lifetime::Owned);
        let many = round % 2 == 1;
        let ring = if many { wanted.many_senders(3).create() } else { wanted.create() }.unwrap();
        let length = fs::metadata(scene.path("ring")).unwrap().len() as usize;
        patch(&scene.path("ring"), 4096, &noise.bytes(length - 4096));
        let opened = scene.builder("ring").open().unwrap();
        if many {
            let _ = opened.multi_sender().map(|mut sender| sender.try_send(b"x"));
        } else {
            let _ = opened.sender().map(|mut sender| sender.try_send(b"x"));
        }
        if let Ok(mut receiver) = opened.receiver() {
            for _ in 0..3 {
                let _ = receiver.try_recv().map(|message| message.to_vec());
            }
        }
        let _ = opened.statistics();
        drop(ring);
    }
}

#[test]
fn another_version_is_refused_with_both_sides() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    patch(&path, 8, &77u32.to_ne_bytes());
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Mismatch { what: "layout version", found, expected } if found == "77" && expected == "1",
        "version", "has 77", "expected was 1"
    );
    patch(&path, 8, &1u32.swap_bytes().to_ne_bytes());
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Mismatch { what: "layout version", .. },
        "another byte order",
        "expected was 1"
    );
}

#[test]
fn another_boot_namespace_or_page_size_is_refused_with_both_sides() {
    let scene = Scene::new();
    let boot = "00112233445566778899aabbccddeeff";
    forge(&scene.ring("boot"), 72, &u128::from_str_radix(boot, 16).unwrap().to_be_bytes());
    let here = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().replace('-', "");
    assert_error!(scene.refused_at("boot"), OpenError::Mismatch { what: "boot", .. }, boot, here);

    let path = scene.ring("namespace");
    let here = u64::from_ne_bytes(header(&path)[88..96].try_into().unwrap());
    forge(&path, 88, &12345u64.to_ne_bytes());
    assert_error!(scene.refused_at("namespace"), OpenError::Mismatch { .. }, "namespace", "has 12345", here);

    let path = scene.ring("page");
    let here = u32::from_ne_bytes(header(&path)[44..48].try_into().unwrap());
    forge(&path, 44, &(1u32 << 20).to_ne_bytes());
    forge(&path, 32, &(1u32 << 20).to_ne_bytes());
    assert_error!(scene.refused_at("page"), OpenError::Mismatch { .. }, "page size", "has 1048576", here);
}

#[test]
fn another_shape_than_was_asked_for_is_refused_with_both_sides() {
    let scene = Scene::new();
    scene.builder("one").capacity(8192).longest_message(100).create().unwrap();
    scene.builder("many").many_senders(3).create().unwrap();
    scene.builder("typed").fixed::<u32>().create().unwrap();
    let asked = |name| builder(name).directory(&scene.directory);
    let cases = [
        (asked("one").capacity(10_000), "capacity", "8192", "16384"),
        (asked("one").longest_message(101), "longest message", "100", "101"),
        (asked("one").many_senders(3), "senders", "one sender", "up to 3 senders"),
        (asked("many").many_senders(4), "senders", "up to 3 senders", "up to 4 senders"),
        (asked("one").fixed::<u64>(), "type", "any bytes", "8 bytes aligned to 8"),
        (asked("typed").fixed::<u64>(), "type", "4 bytes aligned to 4", "8 bytes aligned to 8"),
        (asked("typed").fixed::<[u8; 4]>(), "type", "4 bytes aligned to 4", "4 bytes aligned to 1"),
    ];
    for (asked, about, has, wanted) in cases {
        for error in [scene.refused(|| asked.open()), scene.refused(|| asked.open_or_create())] {
            assert_error!(
                error,
                OpenError::Mismatch { found, expected, .. } if found == has && expected == wanted,
                about, has, wanted
            );
        }
    }
    for capacity in [0, u64::MAX] {
        let refusal = scene.refused(|| asked("one").capacity(capacity).open());
        assert_error!(refusal, OpenError::Setting { what: "capacity", .. }, "from 1 to 1099511627776");
    }
    asked("one").capacity(8192).longest_message(100).open().unwrap();
    asked("many").many_senders(3).open().unwrap();
    asked("typed").fixed::<u32>().open().unwrap();
}

#[test]
fn another_type_than_the_rings_is_refused_with_both_sides() {
    let scene = Scene::new();
    let bytes = scene.builder("bytes").create().unwrap();
    let typed = scene.builder("typed").fixed::<u32>().create().unwrap();
    assert_error!(
        scene.refused(|| bytes.sender().unwrap().typed::<u64>()),
        OpenError::Mismatch { what: "type of message", .. },
        "any bytes",
        "u64"
    );
    assert_error!(
        scene.refused(|| typed.receiver().unwrap().typed::<u64>()),
        OpenError::Mismatch { .. },
        "has 4",
        "expected was 8"
    );
    typed.receiver().unwrap().typed::<u32>().unwrap();
}

#[test]
fn a_sender_of_the_other_kind_is_refused_with_both_sides() {
    let scene = Scene::new();
    let one = scene.builder("one").create().unwrap();
    let many = scene.builder("many").many_senders(3).create().unwrap();
    let kinds = ["one sender", "many"];
    assert_error!(scene.refused(|| one.multi_sender()), OpenError::Mismatch { .. }, kinds[0], kinds[1]);
    assert_error!(scene.refused(|| many.sender()), OpenError::Mismatch { .. }, "many senders", "one sender");
}
