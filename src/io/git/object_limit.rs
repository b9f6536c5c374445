//! The bound of one object: a megabyte of a pack can stand for gigabytes of a blob.

/// The option that bounds the bytes of one object when it is unpacked, during a fetch as well.
pub(super) const MAX_OBJECT: &str = "gitoxide.objects.allocLimit=64m";

/// The message of a refusal because of [`MAX_OBJECT`].
pub(super) const TOO_LARGE: &str = "a file or folder is larger than 64 MiB";

/// Returns whether an object was refused because of [`MAX_OBJECT`].
pub(super) fn is_too_large(why: &str) -> bool {
    why.contains("too large to fit in memory") || why.contains("allocation limit")
}
