//! Responses without a body: what becomes of the guest behind them.

use std::time::Duration;

use http::{Method, StatusCode};
use mayfly_core::record::Settings;

use crate::harness::{Harness, get, read, request, send};
use crate::pauses::pauses;

const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn a_guest_whose_response_has_no_body_still_does_its_work() {
    let harness = Harness::get();
    harness.run(async {
        let slots = harness.node.free_slots();
        for status in [204, 205, 304] {
            let name = format!("pauses-{status}");
            harness.deploy_wat(&name, &pauses(status, PAUSE), Settings::default()).await;
            let reply = get(harness, &format!("/{name}")).await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0));
            harness.settled(slots).await;
            let log = harness.log_of(&name);
            assert!(log.contains("done") && log.contains("answered"), "{log}");
            harness.remove(&name).await;
        }
    });
}

#[test]
fn a_guest_that_was_asked_for_its_head_alone_has_answered() {
    let harness = Harness::get();
    harness.run(async {
        let slots = harness.node.free_slots();
        harness.deploy_wat("headed", &pauses(200, PAUSE), Settings::default()).await;
        let reply = read(send(harness, request(Method::HEAD, "/headed"), None).await).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
        harness.settled(slots).await;
        let log = harness.log_of("headed");
        assert!(log.contains("answered") && !log.contains("client-gone"), "{log}");
        harness.remove("headed").await;
    });
}
