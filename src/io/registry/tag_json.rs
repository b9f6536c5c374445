//! `{"name": …, "tags": […]}`, read in one go straight into a [`TagList`]: a list of 100,000 tags
//! makes no 100,000 strings.

use crate::core::image::{TagList, shown};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// Names that are shown of those refused.
const SHOWN: usize = 20;

/// Names of a tag list that are no tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidNames {
    /// The first twenty, quoted and escaped for printing.
    pub names: Vec<String>,
    pub count: usize,
}

/// The content of one page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TagPage {
    /// Names on it, refused ones included.
    pub names: usize,
    pub first: Option<String>,
}

/// Reads one page; its tags are added to `tags`, names that are no tags to `refused`.
///
/// # Errors
/// If `json` is not one whole object with a `tags` list of strings (`null` counts as an empty list:
/// that is how the distribution registry writes it). `tags` may then have some of the page.
pub fn read_page(
    json: &[u8],
    tags: &mut TagList,
    refused: &mut InvalidNames,
) -> Result<TagPage, serde_json::Error> {
    let mut page = TagPage::default();
    // Checked once for all names: each of them alone takes a quarter of the time.
    let json = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
    let mut reader = serde_json::Deserializer::from_str(json);
    TagObject(Sink {
        tags,
        refused,
        page: &mut page,
    })
    .deserialize(&mut reader)?;
    reader.end()?;
    Ok(page)
}

struct Sink<'a> {
    tags: &'a mut TagList,
    refused: &'a mut InvalidNames,
    page: &'a mut TagPage,
}

impl Sink<'_> {
    fn take(&mut self, name: &str) {
        match self.tags.push(name) {
            Ok(()) if self.page.first.is_none() => self.page.first = Some(name.to_owned()),
            Ok(()) => {}
            Err(_) => {
                self.refused.count += 1;
                if self.refused.names.len() < SHOWN {
                    self.refused.names.push(shown(name));
                }
            }
        }
        self.page.names += 1;
    }
}

struct TagObject<'a>(Sink<'a>);

impl<'de> DeserializeSeed<'de> for TagObject<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TagObject<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of tags")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != "tags" {
                map.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut seen, true) {
                return Err(A::Error::duplicate_field("tags"));
            } else {
                map.next_value_seed(Names(&mut self.0))?;
            }
        }
        if seen {
            Ok(())
        } else {
            Err(A::Error::missing_field("tags"))
        }
    }
}

struct Names<'a, 'b>(&'a mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for Names<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<(), A::Error> {
        while names.next_element_seed(NameSeed(self.0))?.is_some() {}
        Ok(())
    }
}

struct NameSeed<'a, 'b>(&'a mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for NameSeed<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag")
    }
    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.take(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<(Vec<String>, InvalidNames, TagPage), String> {
        let (mut tags, mut refused) = (TagList::new(), InvalidNames::default());
        let page = read_page(json.as_bytes(), &mut tags, &mut refused)
            .map_err(|error| error.to_string())?;
        Ok((tags.iter().map(str::to_owned).collect(), refused, page))
    }

    #[test]
    fn tag_json_of_real_registries_is_parsed() {
        for (json, tags) in [
            (r#"{"name":"a","tags":["1","2"]}"#, vec!["1", "2"]),
            (
                r#"{"tags":["1"],"manifest":{"sha256:00":{"tag":["1"]}},"child":[]}"#,
                vec!["1"],
            ),
            (r#"{"name":"a","tags":null}"#, vec![]),
            (r#" {"tags":[]} "#, vec![]),
            (r#"{"tags":["\u0031.2"]}"#, vec!["1.2"]),
        ] {
            assert_eq!(read(json).unwrap().0, tags, "{json}");
        }
    }

    #[test]
    fn tag_json_hostile_names_are_counted() {
        let (tags, refused, page) =
            read(r#"{"tags":["a\nb","1","\u001b[31mred","","2"]}"#).unwrap();
        assert_eq!(tags, ["1", "2"]);
        assert_eq!(
            refused,
            InvalidNames {
                names: vec![
                    r#""a\nb""#.into(),
                    r#""\u{1b}[31mred""#.into(),
                    r#""""#.into()
                ],
                count: 3
            }
        );
        assert_eq!(
            page,
            TagPage {
                names: 5,
                first: Some("1".into())
            }
        );
        let many = format!(r#"{{"tags":[{}"x y"]}}"#, r#""x y","#.repeat(999));
        let (_, refused, _) = read(&many).unwrap();
        assert_eq!((refused.names.len(), refused.count), (20, 1000));
    }

    #[test]
    fn tag_json_other_than_a_list_is_an_error() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        for json in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"errors":[]}"#,
            r#"{"tags":"1"}"#,
            r#"{"tags":[1]}"#,
            r#"{"tags":[null]}"#,
            r#"{"tags":{}}"#,
            r#"{"tags":["1"],"tags":["2"]}"#,
            r#"{"tags":["1"]}{"tags":["2"]}"#,
            r#"{"tags":["1","#,
            r#"{"tags":["1"]"#,
            "<html></html>",
            &deep,
        ] {
            assert!(read(json).is_err(), "{}", &json[..json.len().min(60)]);
        }
    }

    proptest::proptest! {
        #[test]
        fn tag_json_truncated_is_an_error(names in proptest::collection::vec("[a-z0-9][a-z0-9.]{0,11}", 0..20), at in 0usize..1000) {
            let whole = serde_json::json!({"name": "a/b", "tags": names}).to_string();
            let cut = &whole[..at % whole.len()];
            proptest::prop_assert!(read(cut).is_err(), "{cut}");
            proptest::prop_assert_eq!(read(&whole).unwrap().0, names);
        }
    }
}
