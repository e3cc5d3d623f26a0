//! to come
use super::common::Line;
pub fn serve(_: &Line) {}
