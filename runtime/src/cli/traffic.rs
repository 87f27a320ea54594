//! `mayfly traffic`.

use clap::Args;
use http::Method;
use mayfly_core::FunctionName;
use mayfly_core::deployment::{Percent, Sticky};
use serde_json::json;

use super::deployment::{Change, splits};
use super::output::{self, number, text};
use super::{Failure, code};

/// Share a function's requests out among its versions, as in `mayfly traffic hello 7=90 8=10`.
///
/// It is one change: from one request to the next, all is as it says. A version that has 0 is reached by previews only.
/// Without versions, what serves now is shown.
#[derive(Debug, Args)]
pub(crate) struct Traffic {
    /// The function.
    name: FunctionName,
    /// Each version with its percentage, 100 in all.
    #[arg(value_name = "VERSION=PERCENT")]
    splits: Vec<String>,
    /// By what a request's version is chosen: none (by chance), cookie (which the gateway sets), cookie:NAME or header:NAME
    /// [default: as before].
    #[arg(long)]
    sticky: Option<Sticky>,
    #[command(flatten)]
    change: Change,
}

impl Traffic {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let sticky = self.sticky.as_ref().map(ToString::to_string);
        if self.splits.is_empty() {
            return match sticky {
                None => self.show().await,
                Some(_) => {
                    let why =
                        "name the versions as well: mayfly traffic NAME 7=90 8=10 --sticky ...";
                    Err(Failure::new(code::USAGE, why))
                }
            };
        }
        let splits = self.splits.iter().map(|split| part(split)).collect::<Result<Vec<_>, _>>()?;
        let splits: Vec<_> = splits
            .iter()
            .map(|(version, percent)| json!({ "version": version, "percent": percent.to_string() }))
            .collect();
        let asked = json!({ "splits": splits, "sticky": sticky });
        self.change.switch(Method::PUT, &self.name, "deployment", asked).await
    }

    async fn show(&self) -> Result<(), Failure> {
        let path = format!("/v1/functions/{}/deployment", self.name);
        let now = self.change.connection.open()?.get(&path).await?;
        if self.change.printing.json() {
            return output::json(&now);
        }
        let generation = number(&now, "/generation");
        output::line(format_args!("{}: deployment {generation}: {}", self.name, splits(&now)))?;
        output::line(format_args!("  sticky     {}", text(&now, "/sticky")))
    }
}

/// `7=90`.
fn part(text: &str) -> Result<(u64, Percent), Failure> {
    let usage = |why: String| Failure::new(code::USAGE, format!("{text}: {why}"));
    let (version, percent) = text
        .split_once('=')
        .ok_or_else(|| usage("write VERSION=PERCENT, as in 7=90".to_owned()))?;
    let version = version
        .parse()
        .map_err(|_| usage(format!("'{version}' is no version: `mayfly versions` shows them")))?;
    Ok((version, percent.parse().map_err(|why| usage(format!("{why}")))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_version_and_a_percentage() {
        assert_eq!(part("7=12.5").unwrap(), (7, "12.5".parse().unwrap()));
        for (wrong, words) in [
            ("7", "VERSION=PERCENT"),
            ("seven=1", "no version"),
            ("7=101", "no percentage"),
            ("7=", "no percentage"),
        ] {
            let why = part(wrong).unwrap_err().text;
            assert!(why.contains(words), "{why}");
        }
    }
}
