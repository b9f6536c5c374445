//! The `tagboat` program: a doorway to the library.

fn main() {}
