//! GitHub's GraphQL API, for what REST cannot do.

use super::Github;
use crate::io::forge::{ForgeError, ForgeOperation, ForgeProblem, api::ApiCall};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use std::time::Duration;

/// The wait for GraphQL's rate limit, whose response names no time; its budget is hourly.
const GRAPHQL_WAIT: Duration = Duration::from_secs(300);

impl Github {
    /// Asks GraphQL; gives the data.
    pub(crate) async fn graphql(
        &self,
        operation: ForgeOperation,
        query: &str,
        variables: Value,
    ) -> Result<Value, ForgeError> {
        let mut url: Url = self.api.base().clone();
        let path = url
            .path()
            .trim_end_matches('/')
            .trim_end_matches("/v3")
            .to_owned();
        url.set_path(&format!("{path}/graphql"));
        let call = ApiCall::idempotent(
            operation,
            Method::POST,
            url,
            json!({"query": query, "variables": variables}),
        );
        let mut answer: Value = self.api.json(&call).await?;
        let Some(error) = answer["errors"]
            .as_array()
            .and_then(|errors| errors.first())
        else {
            return Ok(answer["data"].take());
        };
        let said = error["message"]
            .as_str()
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect::<String>();
        let message = Some(said.clone());
        let problem = match error["type"].as_str() {
            Some("RATE_LIMITED") => {
                self.api.park(GRAPHQL_WAIT);
                ForgeProblem::Throttled {
                    retry_after: GRAPHQL_WAIT,
                }
            }
            Some("FORBIDDEN" | "INSUFFICIENT_SCOPES") => ForgeProblem::Forbidden { message },
            Some("NOT_FOUND") => ForgeProblem::NotFound { message },
            _ if said.to_ascii_lowercase().contains("head sha")
                || said.contains("expectedHeadOid") =>
            {
                ForgeProblem::HeadChanged { message }
            }
            _ => ForgeProblem::Refused {
                status: 422,
                message,
            },
        };
        Err(self.api.error(operation, problem))
    }

    /// Returns the login that signs comments; REST does not tell it to an App's installation.
    pub(super) async fn own_login(&self) -> Result<String, ForgeError> {
        let data = self
            .graphql(
                ForgeOperation::SignIn,
                "query { viewer { login } }",
                json!({}),
            )
            .await?;
        Ok(data["viewer"]["login"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }
}
