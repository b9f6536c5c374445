//! Bodies in protobuf, which `kubectl create` sends: those of common kinds become JSON.
//!
//! A field that is not in the table of its message is refused, unless it has its default value:
//! Kubernetes' encoder writes those, too.

use super::messages::{self, FieldType, Fields};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// The four bytes before every message.
const MAGIC: &[u8] = b"k8s\0";

/// The deepest nesting of a message that is compared with its default.
const MAX_DEPTH: u8 = 16;

/// A message that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProtobufError {
    Malformed,
    /// A kind, or a field of one, that is not known here.
    Unsupported(String),
}

/// A field of a message on the wire.
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

impl Wire<'_> {
    /// Returns whether it has the value that it has if it is absent.
    fn is_default(&self, depth: u8) -> bool {
        match self {
            Wire::Number(number) => *number == 0,
            Wire::Bytes([]) => true,
            Wire::Bytes(bytes) if depth < MAX_DEPTH => fields(bytes)
                .is_ok_and(|all| all.iter().all(|(_, value)| value.is_default(depth + 1))),
            Wire::Bytes(_) => false,
        }
    }
}

/// Reads an object.
pub(super) fn object(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Malformed)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for (number, value) in fields(envelope)? {
        match (number, value) {
            (1, Wire::Bytes(meta)) => {
                for field in fields(meta)? {
                    match field {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let known = messages::of(&api_version, &kind)
        .ok_or_else(|| ProtobufError::Unsupported(kind.clone()))?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.clone().into());
    object.append(&mut message(raw, known, &kind)?);
    Ok(Value::Object(object))
}

fn message(bytes: &[u8], known: Fields, path: &str) -> Result<Map<String, Value>, ProtobufError> {
    let mut object = Map::new();
    for (number, value) in fields(bytes)? {
        let Some((_, name, of)) = known.iter().find(|(known, ..)| *known == number) else {
            if value.is_default(0) {
                continue;
            }
            let field = format!("field {number} of {path}");
            return Err(ProtobufError::Unsupported(field));
        };
        add(&mut object, name, *of, &value, path)?;
    }
    Ok(object)
}

/// Adds a field to an object; values that Kubernetes leaves out of JSON are left out.
fn add(
    object: &mut Map<String, Value>,
    name: &str,
    of: FieldType,
    value: &Wire<'_>,
    path: &str,
) -> Result<(), ProtobufError> {
    let read = match (of, value) {
        (FieldType::TextMap | FieldType::BytesMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes, matches!(of, FieldType::BytesMap))?;
            let map = object.entry(name).or_insert_with(|| json!({}));
            map[key] = value;
            return Ok(());
        }
        (FieldType::List(of), value) => {
            let element = single(*of, value, name, path)?;
            let list = object.entry(name).or_insert_with(|| json!([]));
            list.as_array_mut()
                .into_iter()
                .for_each(|list| list.push(element.clone()));
            return Ok(());
        }
        (of, value) => single(of, value, name, path)?,
    };
    let is_said = match of {
        FieldType::SetWhole | FieldType::SetFlag | FieldType::IntOrString => true,
        FieldType::Message(_) => read.as_object().is_some_and(|fields| !fields.is_empty()),
        _ => !value.is_default(0),
    };
    if is_said {
        object.insert(name.to_owned(), read);
    }
    Ok(())
}

fn single(of: FieldType, value: &Wire<'_>, name: &str, path: &str) -> Result<Value, ProtobufError> {
    match (of, value) {
        (FieldType::Text, Wire::Bytes(bytes)) => Ok(text(bytes)?.into()),
        (FieldType::Whole | FieldType::SetWhole, Wire::Number(number)) => {
            Ok(number.cast_signed().into())
        }
        (FieldType::Flag | FieldType::SetFlag, Wire::Number(number)) => Ok((*number != 0).into()),
        (FieldType::Message(known), Wire::Bytes(bytes)) => Ok(Value::Object(message(
            bytes,
            known,
            &format!("{path}.{name}"),
        )?)),
        (FieldType::IntOrString, Wire::Bytes(bytes)) => {
            let (mut is_text, mut number, mut string) = (false, 0, String::new());
            for field in fields(bytes)? {
                match field {
                    (1, Wire::Number(kind)) => is_text = kind == 1,
                    (2, Wire::Number(value)) => number = value.cast_signed(),
                    (3, Wire::Bytes(bytes)) => string = text(bytes)?,
                    _ => {}
                }
            }
            Ok(if is_text {
                string.into()
            } else {
                number.into()
            })
        }
        _ => Err(ProtobufError::Malformed),
    }
}

/// Reads an entry of a map; bytes become base64, as in JSON.
fn entry(bytes: &[u8], is_bytes: bool) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut value) = (String::new(), &[][..]);
    for field in fields(bytes)? {
        match field {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    let value = match is_bytes {
        true => STANDARD.encode(value).into(),
        false => text(value)?.into(),
    };
    Ok((key, value))
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ProtobufError::Malformed)?;
    Ok(text.to_owned())
}

/// Splits a message into its fields.
fn fields(mut bytes: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, ProtobufError> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtobufError::Malformed)?;
        let value = match tag & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            2 => {
                let length = varint(&mut bytes)?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Malformed)?;
                let (value, rest) = bytes
                    .split_at_checked(length)
                    .ok_or(ProtobufError::Malformed)?;
                bytes = rest;
                Wire::Bytes(value)
            }
            // No message of Kubernetes has fields of a fixed width.
            _ => return Err(ProtobufError::Malformed),
        };
        all.push((number, value));
    }
    Ok(all)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(ProtobufError::Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtobufError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a field of bytes.
    fn bytes(number: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        let mut all = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
        all.extend(value);
        all
    }

    fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version), bytes(2, kind)].concat();
        [MAGIC.to_vec(), bytes(1, meta), bytes(2, raw)].concat()
    }

    #[test]
    fn protobuf_kinds_become_json() {
        // The encoder writes empty texts, zeros and empty messages.
        let metadata = bytes(
            1,
            [bytes(1, "c"), bytes(2, ""), vec![7 << 3, 0], bytes(8, "")].concat(),
        );
        let data = bytes(2, [bytes(1, "a"), bytes(2, "b")].concat());
        let status = bytes(3, [8, 0, 16, 0]);
        let config = [metadata.clone(), data].concat();
        assert_eq!(
            object(&enveloped("v1", "ConfigMap", &config)),
            Ok(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}})
            )
        );
        assert_eq!(
            object(&enveloped("v1", "Secret", &config)).unwrap()["data"],
            json!({"a": "Yg=="})
        );
        // A number that is set to zero counts, and so does a port by name.
        let spec = bytes(2, [8, 0]);
        let deployment = [metadata.clone(), spec, status].concat();
        assert_eq!(
            object(&enveloped("apps/v1", "Deployment", &deployment)).unwrap()["spec"],
            json!({"replicas": 0})
        );
        let port = bytes(4, [vec![8, 1, 16, 0], bytes(3, "http")].concat());
        let port = bytes(1, [vec![3 << 3, 80], port].concat());
        let service = [metadata, bytes(2, port)].concat();
        assert_eq!(
            object(&enveloped("v1", "Service", &service)).unwrap()["spec"]["ports"],
            json!([{"port": 80, "targetPort": "http"}])
        );
    }

    #[test]
    fn protobuf_unknown_parts_are_refused() {
        let node_name = bytes(2, bytes(3, bytes(2, bytes(10, "node-1"))));
        assert_eq!(
            object(&enveloped("apps/v1", "Deployment", &node_name)),
            Err(ProtobufError::Unsupported(
                "field 10 of Deployment.spec.template.spec".to_owned()
            ))
        );
        assert_eq!(
            object(&enveloped("v1", "Pod", &[])),
            Err(ProtobufError::Unsupported("Pod".to_owned()))
        );
        for malformed in [
            &b""[..],
            b"k8s\0\x0a\xff",
            b"k8s\0\x09",
            b"{}",
            b"k8s\0\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
        ] {
            assert_eq!(
                object(malformed),
                Err(ProtobufError::Malformed),
                "{malformed:?}"
            );
        }
    }
}
