//! `mayfly remove`.

use bytes::Bytes;
use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use serde_json::Value;

use super::{Connection, Failure, Printing, client, output};

/// Remove a function and its history. New requests find it no more; those under way run to their end.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The function.
    name: FunctionName,
    #[command(flatten)]
    printing: Printing,
    #[command(flatten)]
    connection: Connection,
}

impl Remove {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}", self.name);
        let node = self.connection.open()?;
        let answer = node.send(Method::DELETE, &path, "application/json", Bytes::new()).await?;
        let removed = client::json(answer.into_body()).await?;
        if self.printing.json() {
            return output::json(&removed);
        }
        let under_way = match output::number(&removed, "/under_way") {
            0 => String::new(),
            count => format!(
                "; {count} of its requests run to their end, {} at the longest",
                output::text(&removed, "/wall")
            ),
        };
        output::line(format_args!("{} is removed{under_way}", self.name))?;
        left(&removed).into_iter().try_for_each(output::line)
    }
}

/// What is not as it was for others, and what is left of it.
fn left(removed: &Value) -> Vec<String> {
    let all = |key: &str| {
        let values = removed[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        values.collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    let (routes, configured) = (all("routes"), all("configured_routes"));
    if !routes.is_empty() {
        lines.push(format!("  routes     gone with it: {routes}"));
    }
    if !configured.is_empty() {
        lines.push(format!(
            "  note: `routes` of the node's configuration leads to it: {configured} is 404 until it is deployed again"
        ));
    }
    if removed["returns"] == true {
        lines.push(
            "  note: `deploy` of the node's configuration lists it: the node's next start deploys it again".to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_removal_leaves_is_said() {
        let removed = json!({
            "routes": ["/a/...", "/b"], "configured_routes": ["/c/..."], "returns": true,
        });
        let lines = left(&removed);
        assert_eq!(lines[0], "  routes     gone with it: /a/..., /b");
        assert!(
            lines[1].contains("/c/... is 404") && lines[2].contains("next start deploys it again")
        );
        assert!(left(&json!({ "routes": [], "returns": false })).is_empty());
    }
}
