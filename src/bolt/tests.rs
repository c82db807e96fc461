//! Writing, reading back, and hostile bytes.
