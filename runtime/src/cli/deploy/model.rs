//! A deploy of a bare model: the stock runner with the model in it, and the memory that it needs.

use mayfly_core::FunctionName;
use mayfly_core::units::{format_size, parse_size};

use super::{Deploy, Reset};
use crate::cli::Failure;
use crate::cli::client::Client;
use crate::cli::model::Packed;
use crate::cli::output::text;

impl Deploy {
    /// The runner with this model in it, and what there is to say of it; sets the memory that a model needs, unless that
    /// was said, or what is deployed has as much.
    pub(super) async fn pack(
        &mut self,
        model: &[u8],
        name: &FunctionName,
        client: &Client,
    ) -> Result<(Vec<u8>, Vec<String>), Failure> {
        let Packed { wasm, memory_bytes, mut notes } = self.model.pack(self.path(), model)?;
        if self.limit.iter().any(|limit| limit.trim_start().starts_with("memory")) {
            return Ok((wasm, notes));
        }
        let needs = format_size(memory_bytes);
        let has = match self.resets(Reset::Limits) {
            true => None,
            // One that is not there yet, and a node that cannot be asked, which the deploy itself will tell.
            false => client.get(&format!("/v1/functions/{name}")).await.ok(),
        };
        let has = has.map(|function| text(&function, "/revision/limits/memory").to_owned());
        match has.as_deref().map(parse_size) {
            Some(Ok(has)) if has >= memory_bytes => return Ok((wasm, notes)),
            Some(Ok(has)) => notes.push(format!(
                "its limit memory is raised from {} to {needs} for this model; `--limit memory=...` says otherwise",
                format_size(has)
            )),
            Some(Err(_)) | None => {}
        }
        self.limit.push(format!("memory={needs}"));
        Ok((wasm, notes))
    }
}
