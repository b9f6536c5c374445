//! Packs, as they go over the wire.

use gix::ObjectId;
use gix_pack::data::{Version, output};

/// A pack of whole objects (no deltas: an update's trees and files are small, and the server
/// repacks).
pub(crate) fn pack(
    objects: &[(ObjectId, gix::objs::Kind, Vec<u8>)],
) -> Result<Vec<u8>, gix::Error> {
    let mut entries = Vec::with_capacity(objects.len());
    for (id, kind, data) in objects {
        let data = gix::objs::Data {
            kind: *kind,
            object_hash: gix::hash::Kind::Sha1,
            data,
        };
        entries.push(output::Entry::from_data(
            &output::Count::from_data(*id, None),
            &data,
            gix::zlib::Compression::DEFAULT,
        )?);
    }
    let count = u32::try_from(entries.len()).expect("a pack holds fewer than four billion objects");
    let mut out = Vec::new();
    let chunks = std::iter::once(Ok(entries));
    for written in output::bytes::FromEntriesIter::new(
        chunks,
        &mut out,
        count,
        Version::V2,
        gix::hash::Kind::Sha1,
    ) {
        written?;
    }
    Ok(out)
}
