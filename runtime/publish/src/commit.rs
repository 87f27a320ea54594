//! The end of a publish: what was made is tried, written down and served, or nothing has changed.

use std::time::Instant;

use mayfly_core::FunctionName;
use mayfly_core::deployment::Deployment;
use mayfly_core::limits::node;
use mayfly_core::record::RevisionRecord;
use mayfly_core::router::Route;
use mayfly_host::catalog::{Clash, ClashKind, Entry, Leaves, Takes};
use mayfly_store::records::Written;

use super::Shared;
use super::change::Placement;
use super::error::{PublishError, PublishErrorKind, Stage};
use super::flow::{Order, Stored, Upload, assets_at_run_time};
use super::report::{PublishReport, Times};
use super::rollout::Rollout;
use super::validate::Validated;

impl Shared {
    pub(super) async fn activate(
        &self,
        order: Order,
        module: Validated,
        upload: Upload,
        stored: Stored,
        mut times: Times<'_>,
    ) -> Result<PublishReport, PublishError> {
        let start = Instant::now();
        let mut record = self.record(&order, &module, &upload, &stored)?;
        let Order { name, kept, placement, learned, .. } = order;
        // Before the trial, because it takes time, and after it, because others have gone on meanwhile.
        let mut planned = self.planned(&record, &placement, learned.is_some())?;
        self.check_routes(&name, &planned.routes)?;
        let assets = assets_at_run_time(&record.snapshot, &module.assets);
        let loaded = self.try_out(&record, stored.code, stored.image, assets).await?;
        // The commit is the last step that can fail, so its own time is not in the record.
        times.finish(Stage::Activate, start);
        record.stages = times.so_far();
        let _commit = self.commits.lock().await;
        let checked = self
            .check_room(&name, planned.versions().len())
            .and_then(|()| self.check_routes(&name, &planned.routes));
        // Somebody may have taken one away while it was compiled.
        let checked = checked.and_then(|()| {
            self.check_secrets(&record.settings).map_err(|kind| kind.at(Stage::Activate))
        });
        let carried = self.carried_by_deploy(&mut planned, learned.is_some());
        let committed = checked
            .and_then(|()| self.commit(&record, &planned, learned.is_some(), carried.as_ref()));
        if let Err(error) = committed {
            self.forget_metrics(&name);
            return Err(error);
        }
        let view = self.catalog.load();
        let before = view.function(name.as_str()).map(|function| &function.deployment.routes[..]);
        let replaced = view.get(name.as_str()).map(|entry| entry.record().number);
        let entry = Entry::Ready(self.revision(record.clone(), loaded));
        match learned {
            Some(_) => drop(self.catalog.replace(&name, entry)),
            None => {
                self.serve(planned.clone(), vec![entry]);
                self.carry(&name, carried);
            }
        }
        let (takes, leaves) = self.overlaps(&name, before);
        Ok(PublishReport {
            record,
            replaced,
            deployment: planned,
            kept,
            takes,
            leaves,
            reused: stored.reused,
            functions_cached: stored.functions.0,
            functions_compiled: stored.functions.1,
            init_log: stored.log,
        })
    }

    /// What is to be remembered of a new version.
    fn record(
        &self,
        order: &Order,
        module: &Validated,
        upload: &Upload,
        stored: &Stored,
    ) -> Result<RevisionRecord, PublishError> {
        let number = self.records.next_number(&order.name);
        let mut record = RevisionRecord {
            function: order.name.clone(),
            number: number.map_err(|error| PublishErrorKind::from(error).at(Stage::Activate))?,
            wasm: upload.digest,
            wasm_bytes: upload.wasm.len() as u64,
            artifact: upload.key,
            artifact_mac: stored.row.mac,
            artifact_bytes: stored.code.bytes(),
            code: stored.row.code,
            image: stored.row.image,
            abi: module.abi,
            snapshot: stored.row.snapshot.clone(),
            settings: order.settings.clone(),
            created_unix_s: RevisionRecord::now_unix_s(),
            stages: Vec::new(),
            learned_from: None,
        };
        if let Some(before) = &order.learned {
            let before = &before.record;
            (record.number, record.created_unix_s) = (before.number, before.created_unix_s);
            record.learned_from = Some(before.learned_from.unwrap_or(before.wasm));
        }
        Ok(record)
    }

    /// The deployment that a new version makes; that which is there if it only takes its own place.
    fn planned(
        &self,
        record: &RevisionRecord,
        placement: &Placement,
        in_place: bool,
    ) -> Result<Deployment, PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Activate);
        if in_place {
            let now = self.records.deployment(&record.function);
            let now = now.map_err(|error| at(error.into()))?;
            return now.ok_or_else(|| at(PublishErrorKind::Superseded));
        }
        let mut planned = self.place(&record.function, record.number, placement).map_err(at)?;
        if planned.main() == record.number {
            planned.routes = record.settings.routes.clone();
        }
        Ok(planned)
    }

    fn commit(
        &self,
        record: &RevisionRecord,
        planned: &Deployment,
        in_place: bool,
        carried: Option<&Rollout>,
    ) -> Result<(), PublishError> {
        let at = |kind: PublishErrorKind| kind.at(Stage::Activate);
        let row = carried.map(Rollout::row).transpose().map_err(at)?;
        let (name, rollout) = (&record.function, row.as_deref());
        let written = Written {
            revision: Some(record),
            deployment: (!in_place).then_some(planned),
            // Whoever deploys decides anew who gets what.
            rollout: (!in_place).then_some((name, rollout)),
        };
        self.records.commit(&written).map_err(|error| at(error.into()))
    }

    /// The rollout that goes on beside a deploy for previews.
    fn carried_by_deploy(&self, planned: &mut Deployment, in_place: bool) -> Option<Rollout> {
        if in_place {
            return None;
        }
        let view = self.catalog.load();
        let before = view.function(planned.function.as_str())?.deployment.clone();
        self.carried(&before, planned)
    }

    /// Whether nobody else has the routes or the name's paths, and the node has room for the routes. Those of functions
    /// without code count too.
    pub(super) fn check_routes(
        &self,
        name: &FunctionName,
        own: &[String],
    ) -> Result<(), PublishError> {
        let at = |kind: PublishErrorKind| Err(kind.at(Stage::Activate));
        if let Some(Clash { owner, kind }) = self.catalog.clash(name, own) {
            let (name, function) = (name.to_string(), owner.to_string());
            return at(match kind {
                ClashKind::Route(route) => PublishErrorKind::RouteTaken { route, function },
                ClashKind::RouteConfigured(route) => {
                    PublishErrorKind::RouteConfigured { route, function }
                }
                ClashKind::Name => PublishErrorKind::NameTaken { name, function },
                ClashKind::NameConfigured => PublishErrorKind::NameConfigured { name, function },
            });
        }
        let view = self.catalog.load();
        let others = view.iter().filter(|(function, _)| *function != name);
        let theirs: usize = others.map(|(_, function)| function.deployment.routes.len()).sum();
        let taken = self.catalog.configured().len() + theirs;
        if !own.is_empty() && taken + own.len() > node::ROUTES {
            return at(PublishErrorKind::TooManyRoutes { taken });
        }
        Ok(())
    }

    /// What a function that was just put into the catalog takes from others or leaves to them, by what it did not have
    /// before.
    fn overlaps(
        &self,
        name: &FunctionName,
        before: Option<&[String]>,
    ) -> (Vec<Takes>, Vec<Leaves>) {
        let view = self.catalog.load();
        let by_name = Route::of_name(name).to_string();
        let is_new = |route: &String| match before {
            Some(before) => *route != by_name && !before.contains(route),
            None => true,
        };
        let takes = view.overlaps(name).takes;
        let takes = takes.into_iter().filter(|takes| is_new(&takes.route)).collect();
        let own = view.function(name.as_str()).map(|function| function.deployment.routes.clone());
        let new = own.unwrap_or_default().into_iter().filter(is_new);
        let leaves = new.filter_map(|route| Some(view.leaves(name, &Route::new(&route).ok()?)));
        (takes, leaves.filter(|leaves| !leaves.to.is_empty()).collect())
    }
}
