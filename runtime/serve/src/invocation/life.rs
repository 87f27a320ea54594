//! The guest's whole life: made, called, judged, dropped.

use std::sync::Arc;
use std::time::Instant;

use mayfly_core::Outcome;
use mayfly_core::limits::node::RESPONSE_FIRST;
use mayfly_host::engine::memory::OutOfArenas;
use mayfly_host::engine::ticker::TICK_EPOCHS;
use mayfly_host::exchange::Verdict;
use mayfly_host::meter::Tick;
use mayfly_host::profile::Probe;
use mayfly_host::revision::{Profiled, Revision};
use mayfly_host::sandbox::{Sandbox, Stop};
use wasmtime::{Instance, Memory, Store, StoreContextMut, UpdateDeadline};

use super::housed::Housed;
use super::{judge, nanos};
use crate::node::Node;

/// Runs a guest to its end, and leaves its instance to be taken down.
pub async fn run(
    node: Arc<Node>,
    revision: Arc<Revision>,
    sandbox: Sandbox,
    profiled: Option<Arc<Profiled>>,
) -> Verdict {
    let began = Instant::now();
    let probe = sandbox.probe.clone();
    let exchange = sandbox.exchange.clone();
    let mut store = match revision.module.host(sandbox) {
        Ok(store) => Housed::new(node, revision.clone(), store),
        Err(OutOfArenas::Lent) => return Verdict::of(Outcome::NodeFull),
        Err(error) => return Verdict::of(Outcome::Internal(error.to_string())),
    };
    keep_time(&mut store, probe.as_ref());
    let pre = profiled.as_ref().map_or(&revision.module.pre, |profiled| &profiled.pre);
    let instance = match store.instantiate(pre).await {
        Ok(instance) => instance,
        Err(error) => {
            let outcome = judge::instantiation(&error, store.data());
            return Verdict::of(outcome);
        }
    };
    let ready = Instant::now();
    exchange.notes.set_instantiated(nanos(ready - began));
    let memory = find_memory(&revision, &mut store, &instance);
    if let Some(probe) = &probe {
        probe.calls();
    }
    let mut result = Ok(());
    for call in revision.module.calls.iter() {
        let export = instance.get_module_export(&mut *store, call);
        let Some(func) = export.and_then(wasmtime::Extern::into_func) else { continue };
        result = match func.typed::<(), ()>(&*store) {
            Ok(func) => func.call_async(&mut *store, ()).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            break;
        }
    }
    let ended = Instant::now();
    if let Some(probe) = &probe {
        probe.returned(nanos(ended - ready));
    }
    let dropped_log_bytes = store.data_mut().finish_logs();
    let left = memory.map_or(&[][..], |memory| memory.data(&*store));
    let outcome = judge::call(result, store.data(), left);
    let verdict = Verdict {
        outcome,
        instantiate_ns: nanos(ready - began),
        call_ns: nanos(ended - ready),
        dropped_log_bytes,
    };
    // The client's side is told before the instance is reset, which costs up to milliseconds after much work.
    if let Some(slot) = store.data_mut().slot() {
        slot.answered();
    }
    exchange.finish(verdict.clone());
    if store.is_heavy() {
        // So much is made fresh only once the response is on its way, even if the guest was quick: the thread that is to
        // write it may have been woken on this one's core, and would wait there for it.
        let _ = tokio::time::timeout(RESPONSE_FIRST, exchange.taken()).await;
    }
    let slot = store.called();
    exchange.nearly_taken().await;
    drop(slot);
    verdict
}

/// Makes the guest look at its time: at each tick, and for a profile at each beat.
fn keep_time(store: &mut Store<Sandbox>, probe: Option<&Arc<Probe>>) {
    let Some(probe) = probe.cloned() else {
        store.set_epoch_deadline(TICK_EPOCHS);
        store.epoch_deadline_callback(tick);
        return;
    };
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |context| beat(context, &probe));
}

fn tick(mut context: StoreContextMut<'_, Sandbox>) -> wasmtime::Result<UpdateDeadline> {
    let profiling = &context.data().terms.profiling;
    if profiling.is_on()
        && let Some(profile) = profiling.profile()
    {
        // It began before its function was profiled.
        profile.add_older(&context, TICK_EPOCHS);
    }
    decide(context.data_mut(), TICK_EPOCHS)
}

/// In place of a tick, where a guest is profiled: it comes as often as a sample is to be taken.
fn beat(
    mut context: StoreContextMut<'_, Sandbox>,
    probe: &Probe,
) -> wasmtime::Result<UpdateDeadline> {
    let epochs = probe.sample(&context);
    let sandbox = context.data_mut();
    // Beside ticks, whoever decides on a guest's fate has it look here.
    match probe.is_due() || !sandbox.meter.fate.is_free() {
        true => decide(sandbox, epochs),
        false => Ok(UpdateDeadline::Continue(epochs)),
    }
}

/// What becomes of a guest at a tick, and when it is asked again.
fn decide(sandbox: &mut Sandbox, epochs: u64) -> wasmtime::Result<UpdateDeadline> {
    sandbox.exchange.wake_client();
    match sandbox.meter.tick() {
        Tick::GoOn => Ok(UpdateDeadline::Continue(epochs)),
        Tick::Over(outcome) => Err(Stop(outcome).into()),
        Tick::Yield => {
            sandbox.exchange.set_overran();
            Ok(UpdateDeadline::YieldCustom(epochs, Box::pin(tokio::task::yield_now())))
        }
    }
}

/// Remembers the guest's one memory, for host functions and for whoever watches it.
fn find_memory(
    revision: &Revision,
    store: &mut Store<Sandbox>,
    instance: &Instance,
) -> Option<Memory> {
    let memory = instance.get_module_export(&mut *store, &revision.module.memory)?.into_memory()?;
    store.data_mut().memory = Some(memory);
    let (bytes, sandbox) = memory.data_and_store_mut(store);
    if let Some(slot) = sandbox.slot() {
        slot.made(bytes);
    }
    Some(memory)
}
