//! Settings, modes and names that can't be.

use super::*;

#[test]
fn a_capacity_that_can_not_be_is_told_the_bounds() {
    let scene = Scene::new();
    for absurd in [0, (1 << 40) + 1, 1 << 41, u64::MAX] {
        let asked = scene.builder("ring").capacity(absurd);
        for error in [
            scene.refused(|| asked.create()),
            scene.refused(|| asked.open_or_create()),
            scene.refused(|| asked.memfd()),
            scene.refused(|| asked.in_process()),
        ] {
            assert_error!(
                error,
                OpenError::Setting { what: "capacity", given, .. } if *given == absurd,
                absurd, "1 to", 1u64 << 40
            );
        }
    }
}

#[test]
fn settings_that_can_not_be_are_told_the_bounds() {
    #[repr(align(16))]
    struct Wide;

    let scene = Scene::new();
    let longest = scene.builder("ring").longest_message(4081);
    assert_error!(
        scene.refused(|| longest.create()),
        OpenError::Setting { what: "longest message", given: 4081, most: 4080, .. },
        4081,
        4080
    );
    let senders = scene.builder("ring").many_senders(0);
    assert_error!(
        scene.refused(|| senders.create()),
        OpenError::Setting { given: 0, .. },
        "senders",
        "1 to 255"
    );
    let aligned = scene.builder("ring").fixed::<Wide>();
    assert_error!(
        scene.refused(|| aligned.create()),
        OpenError::Setting { given: 16, .. },
        "alignment",
        "1 to 8"
    );
}

#[test]
fn a_ceiling_that_is_too_small_is_told_whatever_else_is_asked_for() {
    let scene = Scene::new();
    for asked in [
        scene.builder("ring").elastic(1).checksummed(),
        scene.builder("ring").elastic(1).longest_message(1),
        scene.builder("ring").checksummed().elastic(1 << 20).capacity(1 << 16),
    ] {
        for error in [scene.refused(|| asked.create()), scene.refused(|| asked.memfd())] {
            assert_error!(error, OpenError::Setting { what: "ceiling", .. }, "from 262144");
        }
    }
}

#[test]
fn a_longest_message_beside_a_type_is_its_size() {
    let scene = Scene::new();
    for longest in [0, 4, 100] {
        let asked = scene.builder("ring").fixed::<u64>().longest_message(longest);
        for error in [
            scene.refused(|| asked.create()),
            scene.refused(|| asked.memfd()),
            scene.refused(|| asked.in_process()),
        ] {
            assert_error!(error, OpenError::Setting { given, .. } if *given == longest, "longest message", "one type", 8);
        }
    }
    assert!(ringpost::unnamed().fixed::<u64>().longest_message(8).memfd().is_ok());
}

#[test]
fn a_mode_that_lets_everybody_write_or_keeps_the_owner_out_is_refused() {
    let scene = Scene::new();
    for mode in [0o666, 0o602, 0o400, 0o200, 0, 0o4600, u32::MAX] {
        assert_error!(
            scene.refused(|| scene.builder("ring").mode(mode).create()),
            OpenError::Mode { bits } if *bits == mode,
            "its owner must read and write it, others must not write it",
            "0600"
        );
    }
    for mode in [0o600, 0o660, 0o664] {
        let ring = scene.builder("ring").mode(mode).lifetime(Lifetime::Owned).create().unwrap();
        assert_eq!(fs::metadata(ring.path().unwrap()).unwrap().permissions().mode() & 0o7777, mode);
        scene.builder("ring").open().unwrap();
    }
}

#[test]
fn a_name_that_can_not_be_is_told_why() {
    let scene = Scene::new();
    let too_long = "n".repeat(247);
    for (name, why) in [
        ("", "empty"),
        ("a/b", "slash"),
        ("/", "slash"),
        ("../up", "slash"),
        (".", "dot"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("a\0b", "zero byte"),
        (too_long.as_str(), "more than 246 bytes"),
    ] {
        let asked = scene.builder(name);
        for error in [
            scene.refused(|| asked.create().map(drop)),
            scene.refused(|| asked.open().map(drop)),
            scene.refused(|| asked.open_or_create().map(drop)),
            scene.refused(|| asked.unlink()),
        ] {
            assert_error!(error, OpenError::Name { name: given, .. } if given == name, why, format!("{name:?}"));
        }
    }
    scene.builder(&too_long[1..]).lifetime(Lifetime::Owned).create().unwrap();
}
