//! The memory of a segment.

use super::*;

/// Bytes of a mapping; only where nobody else writes to it at the same time.
fn write(at: core::ptr::NonNull<u8>, offset: usize, byte: u8) {
    // SAFETY: the tests below stay inside their mappings and have no other thread that touches them.
    unsafe { at.byte_add(offset).write_volatile(byte) }
}

fn read(at: core::ptr::NonNull<u8>, offset: usize) -> u8 {
    // SAFETY: as in `write`.
    unsafe { at.byte_add(offset).read_volatile() }
}

#[test]
fn both_halves_of_the_data_are_the_same_memory() {
    let capacity = 4 * page_size();
    let segment = Segment::memfd("ring", page() + capacity as u64).unwrap();
    let mapping = segment.map(page_size(), capacity).unwrap();
    for offset in [0, 1, page_size(), capacity - 1] {
        write(mapping.data(), offset, 7);
        assert_eq!(read(mapping.data(), capacity + offset), 7);
        write(mapping.data(), capacity + offset, 8);
        assert_eq!(read(mapping.data(), offset), 8);
    }
}

#[test]
fn a_message_across_the_end_lies_in_one_piece_and_goes_on_at_the_start() {
    let capacity = page_size();
    let mapping = Segment::memfd("ring", 2 * page()).unwrap().map(page_size(), capacity).unwrap();
    for (index, byte) in b"across".iter().enumerate() {
        write(mapping.data(), capacity - 3 + index, *byte);
    }
    assert_eq!([0, 1, 2].map(|offset| read(mapping.data(), offset)), *b"oss");
    assert_eq!([3, 2, 1].map(|back| read(mapping.data(), capacity - back)), *b"acr");
}

#[test]
fn control_and_data_lie_in_the_file_one_after_the_other() {
    let dir = TempDir::new();
    let (segment, path) = dir.segment("ring");
    let mapping = segment.map(page_size(), page_size()).unwrap();
    assert_eq!(mapping.control_len(), page_size());
    write(mapping.control(), page_size() - 1, 1);
    write(mapping.data(), 0, 2);
    write(mapping.data(), 2 * page_size() - 1, 3);
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes[page_size() - 1..=page_size()], [1, 2]);
    assert_eq!(bytes.last(), Some(&3));
    assert_eq!(bytes.len(), 2 * page_size());
}

#[test]
fn two_mappings_of_a_segment_see_each_other_and_outlive_it() {
    let dir = TempDir::new();
    let (segment, path) = dir.segment("ring");
    let ours = segment.map(page_size(), page_size()).unwrap();
    let theirs = Segment::open(&path, user()).unwrap().map(page_size(), page_size()).unwrap();
    unlink(&path).unwrap();
    drop(segment);
    write(ours.control(), 5, 6);
    write(ours.data(), 7, 8);
    assert_eq!((read(theirs.control(), 5), read(theirs.data(), 7)), (6, 8));
}

#[test]
fn a_dropped_mapping_leaves_nothing_behind() {
    let segment = Segment::memfd("ringpost-drop", 3 * page()).unwrap();
    let maps = || fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:ringpost-drop").count();
    let mapping = segment.map(page_size(), 2 * page_size()).unwrap();
    assert_ne!(maps(), 0);
    drop(mapping);
    assert_eq!(maps(), 0);
}

#[test]
fn a_mapping_may_go_to_another_thread() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Mapping>();
    is_send_and_sync::<Segment>();
}

#[test]
fn lengths_that_are_not_whole_pages_are_refused() {
    let segment = Segment::memfd("ring", 4 * page()).unwrap();
    let page = page_size();
    for (control_len, capacity) in [(0, page), (page, 0), (page - 1, page), (page, page + 8), (1, usize::MAX)]
    {
        assert_error!(
            segment.map(control_len, capacity),
            SegmentError::Unaligned { .. },
            control_len,
            capacity,
            page
        );
    }
}

#[test]
fn a_file_that_is_too_short_is_refused() {
    let dir = TempDir::new();
    let (segment, path) = dir.segment("ring");
    let needed = 3 * page();
    assert_error!(
        segment.map(page_size(), 2 * page_size()),
        SegmentError::TooShort { .. },
        2 * page(),
        needed
    );
    File::options().write(true).open(&path).unwrap().set_len(2 * page() - 1).unwrap();
    let opened = Segment::open(&path, user()).unwrap();
    assert_error!(opened.map(page_size(), page_size()), SegmentError::TooShort { .. }, 2 * page() - 1);
    let largest = usize::MAX & !(page_size() - 1);
    assert_error!(opened.map(largest, largest), SegmentError::TooShort { needed: u64::MAX, .. }, u64::MAX);
}

#[test]
fn the_head_is_read_before_anything_is_mapped_and_a_short_file_gives_what_there_is() {
    let dir = TempDir::new();
    let path = dir.path("ring");
    let mut file = File::create_new(&path).unwrap();
    file.write_all(b"header").unwrap();
    file.rewind().unwrap();
    let segment = Segment::open(&path, user()).unwrap();
    let mut head = [0; 4];
    for _ in 0..2 {
        assert_eq!(segment.read_head(&mut head).unwrap(), 4);
        assert_eq!(&head, b"head");
    }
    let mut longer = [0xff; 8];
    assert_eq!(segment.read_head(&mut longer).unwrap(), 6);
    assert_eq!(&longer, b"header\xff\xff");
    assert_eq!(segment.read_head(&mut []).unwrap(), 0);
}

#[test]
fn holes_in_a_file_are_filled_before_it_is_mapped() {
    let dir = TempDir::new();
    File::create_new(dir.path("ring")).unwrap().set_len(4 * page()).unwrap();
    let segment = Segment::open(&dir.path("ring"), user()).unwrap();
    assert_eq!(allocated(&segment.metadata().unwrap()), 0);
    segment.map(page_size(), 3 * page_size()).unwrap();
    assert_eq!(allocated(&segment.metadata().unwrap()), 4 * page());
}
