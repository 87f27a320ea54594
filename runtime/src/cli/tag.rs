//! `mayfly tag`.

use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use mayfly_core::deployment::Tag as Name;
use serde_json::json;

use super::deployment::{Change, preview};
use super::output::{self, number, text};
use super::{Failure, code};

/// Give a version a second name, by which a preview of it is called: `/hello@pr-42`.
///
/// A tagged version stays ready, and its code is kept.
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// The function.
    name: FunctionName,
    /// The version; not with --delete.
    #[arg(value_name = "VERSION")]
    version: Option<String>,
    /// The tag, as in pr-42.
    #[arg(value_name = "TAG")]
    tag: Option<String>,
    /// The preview needs no token.
    #[arg(long)]
    public: bool,
    /// Take the tag away.
    #[arg(long, conflicts_with = "public")]
    delete: bool,
    #[command(flatten)]
    change: Change,
}

impl Tag {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let usage = |why: &str| Failure::new(code::USAGE, why);
        let tag = |text: &str| text.parse::<Name>().map_err(|why| Failure::new(code::USAGE, why));
        if self.delete && self.tag.is_some() {
            return Err(usage(
                "a tag is taken away by its name alone: mayfly tag NAME TAG --delete",
            ));
        }
        if self.delete {
            let given = self.tag.as_ref().or(self.version.as_ref());
            let given = given.ok_or_else(|| usage("name the tag: mayfly tag NAME TAG --delete"))?;
            let what = format!("tags/{}", tag(given)?);
            return self.change.switch(Method::DELETE, &self.name, &what, json!({})).await;
        }
        let (Some(version), Some(given)) = (&self.version, &self.tag) else {
            return Err(usage("name the version and the tag: mayfly tag NAME VERSION TAG"));
        };
        let version: u64 = version
            .parse()
            .map_err(|_| usage("a version is a number: mayfly tag NAME VERSION TAG"))?;
        let (tag, public) = (tag(given)?, self.public);
        let asked = json!({ "version": version, "public": public });
        let what = format!("tags/{tag}");
        let (_, answer) = self.change.send(Method::PUT, &self.name, &what, asked).await?;
        if self.change.printing.json() {
            return output::json(&answer);
        }
        let now = &answer["deployment"];
        let url = now["tags"][tag.as_str()]["url"].as_str().unwrap_or_default();
        let generation = number(now, "/generation");
        output::line(format_args!(
            "{}: deployment {generation}: version {version} answers at {url}",
            self.name
        ))?;
        if public || text(now, "/preview_token").is_empty() { Ok(()) } else { preview(now, url) }
    }
}
