use mayfly_core::limits::node;

use super::format::FORMAT;
use super::*;

#[test]
fn a_database_that_was_shut_is_opened_anew_by_whoever_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(&dir.path().join("db")).unwrap();
    let name = FunctionName::new("f").unwrap();
    for opened in 0..3 {
        assert_eq!(records.held.read().opened, opened);
        assert_eq!(records.deployment(&name).unwrap(), None);
        records.held.write().db = None;
        std::thread::scope(|scope| {
            let looks = [(); 4].map(|()| scope.spawn(|| records.current().unwrap().len()));
            looks.into_iter().for_each(|look| assert_eq!(look.join().unwrap(), 0));
        });
    }
}

#[test]
fn what_cannot_be_opened_is_tried_again_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let records = Records::open(&path).unwrap();
    records.held.write().db = None;
    std::fs::rename(&path, dir.path().join("aside")).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(records.current().is_err());
    assert!(records.current().is_err());
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(dir.path().join("aside"), &path).unwrap();
    assert_eq!(records.current().unwrap().len(), 0);
}

#[test]
fn modules_without_their_database_are_not_taken_for_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    let (path, wasm) = (dir.path().join("mayfly.redb"), dir.path().join("wasm"));
    check_beside(&path, &wasm).unwrap();
    std::fs::create_dir(&wasm).unwrap();
    check_beside(&path, &wasm).unwrap();
    std::fs::write(wasm.join("1.wasm"), "x").unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::write(&path, "").unwrap();
        }
        let error = check_beside(&path, &wasm).unwrap_err().to_string();
        assert!(error.contains("1 modules are in") && error.contains("move that"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    drop(Records::open(&path).unwrap());
    check_beside(&path, &wasm).unwrap();
}

#[test]
fn a_file_that_is_damaged_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mayfly.redb");
    drop(Records::open(&path).unwrap());
    let whole = std::fs::read(&path).unwrap();
    let mut mixed = whole.clone();
    mixed[64..1024].fill(0xa5);
    for (what, bytes) in [
        ("text", b"garbage".repeat(1000)),
        ("zeros", vec![0; 10_000]),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("mixed", mixed),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = Records::open(&path).map(drop).unwrap_err().to_string();
        let named = format!("{} is damaged", path.display());
        assert!(
            error.starts_with(&named) && error.contains("move this file away"),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_file_of_a_newer_mayfly_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(Records::open(&path).unwrap());
    let db = Database::create(&path).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
    write.commit().unwrap();
    drop(db);
    assert!(matches!(Records::open(&path), Err(RecordsError::Newer(3))));
}

/// A record as one that was deployed.
fn record(function: &FunctionName, number: u64, routes: &[&str]) -> RevisionRecord {
    let digest = mayfly_core::Digest::of(&number.to_le_bytes());
    RevisionRecord {
        function: function.clone(),
        number,
        wasm: digest,
        wasm_bytes: 1,
        artifact: ArtifactKey(digest),
        artifact_mac: Mac::from_bytes([0; 32]),
        artifact_bytes: 1,
        code: None,
        image: None,
        abi: mayfly_core::record::Abi::Command,
        snapshot: Snapshot::NoInit,
        settings: mayfly_core::record::Settings {
            routes: routes.iter().map(|route| (*route).to_owned()).collect(),
            ..Default::default()
        },
        created_unix_s: 7,
        stages: Vec::new(),
        learned_from: None,
    }
}

/// Makes a version and gives it all requests.
fn deploy(records: &Records, name: &FunctionName, generation: u64) -> RevisionRecord {
    let record = record(name, records.next_number(name).unwrap(), &[]);
    let mut deployment = Deployment::whole(name.clone(), record.number, Vec::new());
    deployment.generation = generation;
    let (revision, deployment) = (Some(&record), Some(&deployment));
    records.commit(&Written { revision, deployment, ..Written::default() }).unwrap();
    record
}

#[test]
fn a_file_of_the_format_before_becomes_one_of_this() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Database::create(&path).unwrap();
    let write = db.begin_write().unwrap();
    let (f, g) = (FunctionName::new("f").unwrap(), FunctionName::new("g").unwrap());
    {
        let mut revisions = write.open_table(REVISIONS).unwrap();
        for (name, number, routes) in [(&f, 1, &["/a"][..]), (&f, 2, &["/b/..."]), (&g, 1, &[])] {
            let json = serde_json::to_vec(&record(name, number, routes)).unwrap();
            revisions.insert((name.as_str(), number), json.as_slice()).unwrap();
        }
        let mut current = write.open_table(CURRENT).unwrap();
        current.insert("f", 2).unwrap();
        current.insert("g", 1).unwrap();
        write.open_table(ARTIFACTS).unwrap();
        write.open_table(META).unwrap().insert("format", 1).unwrap();
    }
    write.commit().unwrap();
    drop(db);
    for _ in 0..2 {
        let records = Records::open(&path).unwrap();
        let current = records.current().unwrap();
        assert_eq!(current.len(), 2);
        let (deployment, versions) = &current[0];
        assert_eq!((deployment.generation, deployment.main(), deployment.at_unix_s), (2, 2, 7));
        assert_eq!((&deployment.routes[..], versions[0].number), (&["/b/...".to_owned()][..], 2));
        assert_eq!((records.next_number(&f).unwrap(), records.history(&f).unwrap().len()), (3, 2));
        assert!(records.rollouts().unwrap().is_empty());
    }
}

#[test]
fn what_a_recent_deployment_or_a_tag_names_is_remembered_beyond_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(&dir.path().join("db")).unwrap();
    let name = FunctionName::new("f").unwrap();
    for generation in 1..=3 {
        deploy(&records, &name, generation);
    }
    let most = node::HISTORY as u64;
    for generation in 4..4 + most {
        let record = record(&name, records.next_number(&name).unwrap(), &[]);
        let mut deployment = records.deployment(&name).unwrap().unwrap();
        // Version 2 is tagged, and 3 has the requests, all the time.
        let tagged = mayfly_core::deployment::Tagged { version: 2, public: false };
        deployment.tags.insert("kept".parse().unwrap(), tagged);
        deployment.generation = generation;
        let (revision, deployment) = (Some(&record), Some(&deployment));
        records.commit(&Written { revision, deployment, ..Written::default() }).unwrap();
    }
    let numbers: Vec<_> = records.history(&name).unwrap().iter().map(|r| r.number).collect();
    assert_eq!((numbers.len() as u64, numbers[0]), (most + 2, most + 3));
    assert_eq!(numbers[numbers.len() - 2..], [3, 2]);
    assert_eq!(records.deployments(&name).unwrap().len(), node::DEPLOYMENTS);
    // The code of what serves, or is tagged, is kept before any other's.
    let ready = records.references(true).unwrap();
    let has = |number: u64| {
        ready.contains(&(Kind::Artifact, mayfly_core::Digest::of(&number.to_le_bytes())))
    };
    assert!(has(2) && has(3) && !has(4) && !has(most));
    assert!(records.remove(&name).unwrap());
    assert_eq!(records.next_number(&name).unwrap(), 1);
    assert!(records.deployments(&name).unwrap().is_empty());
}

#[test]
fn a_rollout_is_written_with_its_deployment_and_goes_with_its_function() {
    let dir = tempfile::tempdir().unwrap();
    let records = Records::open(&dir.path().join("db")).unwrap();
    let name = FunctionName::new("f").unwrap();
    deploy(&records, &name, 1);
    let rollout = |bytes| Written { rollout: Some((&name, bytes)), ..Written::default() };
    records.commit(&rollout(Some(b"{}"))).unwrap();
    assert_eq!(records.rollouts().unwrap(), [("f".to_owned(), b"{}".to_vec())]);
    records.commit(&rollout(None)).unwrap();
    assert!(records.rollouts().unwrap().is_empty());
    records.commit(&rollout(Some(b"{}"))).unwrap();
    records.remove(&name).unwrap();
    assert!(records.rollouts().unwrap().is_empty());
}
