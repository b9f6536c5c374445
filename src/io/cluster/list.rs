//! Lists of objects, page by page. A page is bounded in bytes, whatever is in it.

use super::{
    ClusterClient, RequestIdentity,
    discovery::Resource,
    error::{ClusterError, ClusterProblem},
    request::{ApiRequest, RequestVerb},
    url,
};
use crate::objects::object::Object;
use serde::Deserialize;
use serde_json::Value;

/// Objects asked for at once, as client-go does.
pub(crate) const PAGE: usize = 500;
/// The most bytes of one page. A page with more is asked for again with fewer objects.
pub(crate) const PAGE_BYTES: usize = 16 << 20;
/// The factor by which a page that is too large shrinks.
const SHRINK: usize = 8;

/// A page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectList {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    pub metadata: ListMeta,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ListMeta {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub next: String,
}

/// A list that is read page by page.
pub(crate) struct Pages<'a> {
    identity: &'a RequestIdentity,
    resource: &'a Resource,
    namespace: Option<&'a str>,
    labels: Option<&'a str>,
    /// The most objects of a page.
    limit: usize,
    /// The token of the next page, empty for the first; `None` after the last one.
    next: Option<String>,
    has_restarted: bool,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(
        identity: &'a RequestIdentity,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        labels: Option<&'a str>,
    ) -> Self {
        Self {
            identity,
            resource,
            namespace,
            labels,
            limit: PAGE,
            next: Some(String::new()),
            has_restarted: false,
        }
    }
}

/// The objects of a page.
pub(crate) struct ObjectPage {
    pub objects: Vec<Result<Object, ClusterProblem>>,
    /// True if the list begins again, so that earlier pages do not count.
    pub restarted: bool,
}

impl ObjectList {
    /// Parses a page. Anything but a list is an error: as an empty list it would mean that
    /// everything is gone.
    pub(crate) fn read(
        cluster: &ClusterClient,
        subject: &str,
        body: &[u8],
    ) -> Result<Self, ClusterError> {
        let list: Self = cluster.read(subject, body)?;
        if !list.kind.ends_with("List") {
            let why = format!(
                "it is a {}, not a list",
                crate::core::image::shown(&list.kind)
            );
            return Err(cluster.fault(subject, ClusterProblem::Protocol { why }));
        }
        Ok(list)
    }

    /// Returns the objects. Items of built-in kinds have no apiVersion and kind of their own: the
    /// list has them for all.
    pub(crate) fn objects(self) -> impl Iterator<Item = Result<Object, ClusterProblem>> {
        let Self {
            api_version,
            kind,
            items,
            ..
        } = self;
        let kind = kind.strip_suffix("List").unwrap_or(&kind).to_owned();
        items.unwrap_or_default().into_iter().map(move |mut item| {
            if let Some(fields) = item.as_object_mut() {
                fields
                    .entry("apiVersion")
                    .or_insert_with(|| api_version.clone().into());
                fields.entry("kind").or_insert_with(|| kind.clone().into());
            }
            Object::new(item).map_err(|error| ClusterProblem::Protocol {
                why: format!("an item of the list is no object: {error}"),
            })
        })
    }
}

impl ClusterClient {
    /// Lists all objects of a kind with these labels ("a=b,c"), in one namespace or in all, page by
    /// page.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub async fn list(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Vec<Object>, ClusterError> {
        self.list_as(identity, resource, namespace, labels, |object| object)
            .await
    }

    /// Like [`ClusterClient::list`], but keeps only the result of `each` beyond a page.
    pub(crate) async fn list_as<T>(
        &self,
        identity: &RequestIdentity,
        resource: &Resource,
        namespace: Option<&str>,
        labels: Option<&str>,
        make: impl Fn(Object) -> T,
    ) -> Result<Vec<T>, ClusterError> {
        let mut pages = Pages::new(identity, resource, namespace, labels);
        let mut found = Vec::new();
        while let Some(page) = self.next_page(&mut pages).await? {
            if page.restarted {
                found.clear();
            }
            for object in page.objects {
                let object = object.map_err(|problem| self.fault(resource.dotted(), problem))?;
                found.push(make(object));
            }
        }
        Ok(found)
    }

    /// Reads the next page of a list; `None` after the last one.
    ///
    /// # Errors
    /// As every request: see [`ClusterProblem`].
    pub(crate) async fn next_page(
        &self,
        pages: &mut Pages<'_>,
    ) -> Result<Option<ObjectPage>, ClusterError> {
        let subject = pages.resource.dotted();
        let collection = url::collection(pages.resource, pages.namespace)
            .map_err(|problem| self.fault(&subject, problem))?;
        let mut restarted = false;
        while let Some(next) = pages.next.clone() {
            let query = url::query(&[
                ("labelSelector", pages.labels.unwrap_or_default()),
                ("limit", &pages.limit.to_string()),
                ("continue", &next),
            ]);
            let path = format!("{collection}{query}");
            let call = ApiRequest {
                subject: subject.clone(),
                resource: subject.clone(),
                namespace: pages.namespace,
                gvk: Some(&pages.resource.gvk),
                largest: PAGE_BYTES,
                ..ApiRequest::get(RequestVerb::List, path, pages.identity)
            };
            let error = match self.call(call).await {
                Ok(answer) => {
                    let list = ObjectList::read(self, &subject, &answer.body)?;
                    let token = list.metadata.next.clone();
                    pages.next = (!token.is_empty()).then_some(token);
                    let objects = list.objects().collect();
                    return Ok(Some(ObjectPage { objects, restarted }));
                }
                Err(error) => error,
            };
            match *error.problem {
                ClusterProblem::AnswerTooLarge { .. } if pages.limit > 1 => {
                    pages.limit = (pages.limit / SHRINK).max(1);
                }
                // The pages took longer than the server keeps a version: once more from the start.
                ClusterProblem::Gone if !next.is_empty() && !pages.has_restarted => {
                    pages.next = Some(String::new());
                    pages.has_restarted = true;
                    restarted = true;
                }
                _ => return Err(error),
            }
        }
        Ok(None)
    }
}
