use rand::{Rng as _, SeedableRng as _};

use super::*;

fn name() -> FunctionName {
    FunctionName::new("f").unwrap()
}

fn split(parts: &[(u64, u16)]) -> Deployment {
    let splits = parts
        .iter()
        .map(|&(version, points)| Split { version, percent: Percent::try_from(points).unwrap() });
    let mut deployment = Deployment::whole(name(), 1, Vec::new());
    deployment.splits = splits.collect();
    deployment.check().unwrap();
    deployment
}

#[test]
fn percentages_are_read_and_written_alike() {
    for (text, points) in [("0", 0), ("10", 1000), ("12.5", 1250), ("0.01", 1), ("100", 10_000)] {
        let percent: Percent = text.parse().unwrap();
        assert_eq!((percent.points(), percent.to_string().as_str()), (points, text));
    }
    assert_eq!("90%".parse::<Percent>().unwrap().points(), 9_000);
    for wrong in ["", "-1", "101", "100.01", "1.001", ".5", "5.", "1e1", "ten", "1000000"] {
        assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
    }
}

#[test]
fn what_others_keep_is_scaled_and_makes_the_whole() {
    let parts = [3_333, 3_333, 3_334].map(|points| Percent::try_from(points).unwrap());
    for whole in [0, 1, 2, 5_000, 9_999, 10_000] {
        let scaled = Percent::scaled(&parts, Percent::try_from(whole).unwrap());
        assert_eq!(scaled.iter().map(|part| part.points()).sum::<u16>(), whole);
    }
    let nothing = Percent::scaled(&[Percent::NONE; 2], Percent::ALL);
    assert_eq!(nothing, [Percent::ALL, Percent::NONE]);
}

#[test]
fn a_deployment_that_cannot_be_says_why() {
    let told = |parts: &[(u64, u16)]| {
        let mut deployment = Deployment::whole(name(), 1, Vec::new());
        deployment.splits = parts
            .iter()
            .map(|&(version, points)| Split {
                version,
                percent: Percent::try_from(points).unwrap(),
            })
            .collect();
        deployment.check().unwrap_err().to_string()
    };
    assert_eq!(told(&[(7, 9_000), (8, 500)]), "the percentages make 95 and not 100");
    assert_eq!(told(&[(7, 5_000), (7, 5_000)]), "version 7 is named twice");
    let five: Vec<_> = (1..=5).map(|version| (version, 2_000)).collect();
    assert_eq!(told(&five), "5 versions: a deployment has at most 4");
    assert!(told(&[]).contains("make 0"));
}

#[test]
fn tags_cannot_be_taken_for_versions() {
    for good in ["a", "pr-42", "v1.2", "feature_x"] {
        assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
    }
    let long = "a".repeat(33);
    for wrong in ["", "7", "42a", "-a", "A", "a/b", "a@b", "ä", &long] {
        assert!(wrong.parse::<Tag>().is_err(), "{wrong}");
    }
    assert_eq!("latest".parse::<Tag>(), Err(TagError::Latest));
}

#[test]
fn stickiness_is_read_and_written_alike() {
    for text in ["none", "cookie", "cookie:sid", "header:x-user"] {
        assert_eq!(text.parse::<Sticky>().unwrap().to_string(), text);
    }
    assert_eq!("header:X-User".parse::<Sticky>().unwrap(), Sticky::Header("x-user".into()));
    for wrong in [
        "",
        "cookies",
        "cookie:",
        "header:",
        "header:a b",
        "cookie:a=b",
        "ip",
        "cookie:mayfly-split",
    ] {
        assert!(wrong.parse::<Sticky>().is_err(), "{wrong}");
    }
}

#[test]
fn nobody_goes_back_while_the_newest_grows() {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let keys: Vec<u64> = (0..10_000).map(|_| random.random()).collect();
    let mut had = vec![0; keys.len()];
    for points in (0..=10_000).step_by(100) {
        let deployment = split(&[(7, 10_000 - points), (8, points)]);
        for (key, had) in keys.iter().zip(&mut had) {
            let now = deployment.choose(Bucket::of_key(&name(), &key.to_le_bytes()));
            assert!(now >= *had, "key {key} went from {had} to {now} at {points}");
            *had = now;
        }
    }
    assert!(had.iter().all(|version| *version == 8));
    // With a third version, as long as what is newer than each has no less than before.
    let steps = [(8_000, 1_000, 1_000), (6_000, 2_000, 2_000), (0, 4_000, 6_000), (0, 0, 10_000)];
    had.fill(0);
    for (first, second, third) in steps {
        let deployment = split(&[(7, first), (8, second), (9, third)]);
        for (key, had) in keys.iter().zip(&mut had) {
            let now = deployment.choose(Bucket::of_key(&name(), &key.to_le_bytes()));
            assert!(now >= *had);
            *had = now;
        }
    }
}

#[test]
fn a_split_is_met_closely_by_chance_and_by_key() {
    let deployment = split(&[(7, 8_000), (8, 2_000)]);
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let (mut drawn, mut keyed) = (0, 0);
    for key in 0..100_000_u32 {
        drawn += u32::from(deployment.choose(Bucket::drawn(random.random())) == 8);
        keyed += u32::from(deployment.choose(Bucket::of_key(&name(), &key.to_le_bytes())) == 8);
    }
    // Four standard deviations are 506.
    assert!((19_500..=20_500).contains(&drawn), "{drawn}");
    assert!((19_500..=20_500).contains(&keyed), "{keyed}");
}

#[test]
fn going_back_goes_on_and_over_the_steps_of_a_rollout() {
    let of = |generation, version, rollout, back| Deployment {
        generation,
        rollout,
        back,
        ..split(&[(version, 10_000)])
    };
    let half = |generation| Deployment {
        generation,
        rollout: Some(2),
        ..split(&[(1, 5_000), (2, 5_000)])
    };
    let all = [of(1, 7, None, None), of(2, 1, None, None), half(3), of(4, 2, Some(2), None)];
    let target = |now: &Deployment| {
        all.iter().rev().find(|other| now.goes_back_to(other)).map(|other| other.generation)
    };
    // From the end of a rollout to what was before it, and from there on.
    assert_eq!(target(&all[3]), Some(2));
    assert_eq!(target(&of(5, 1, None, Some(2))), Some(1));
    assert_eq!(target(&of(6, 7, None, Some(1))), None);
    // From what was deployed after one to its end.
    assert_eq!(target(&of(5, 9, None, None)), Some(4));
}

#[test]
fn a_cookie_is_a_bucket_or_nothing() {
    assert_eq!(Bucket::from_text(b"0").map(Bucket::number), Some(0));
    assert_eq!(Bucket::from_text(b"9999").map(Bucket::number), Some(9_999));
    for wrong in [&b""[..], b"10000", b"-1", b"+1", b" 1", b"x"] {
        assert_eq!(Bucket::from_text(wrong), None);
    }
}

#[test]
fn the_main_version_has_most_and_all_that_are_reached_are_listed_once() {
    let mut deployment = split(&[(7, 9_000), (8, 1_000), (9, 0)]);
    deployment.tags.insert("pr-1".parse().unwrap(), Tagged { version: 3, public: false });
    deployment.tags.insert("old".parse().unwrap(), Tagged { version: 7, public: true });
    assert_eq!((deployment.main(), deployment.versions()), (7, vec![7, 3, 8, 9]));
    assert!(deployment.is_split() && !split(&[(7, 10_000), (8, 0)]).is_split());
    assert_eq!(split(&[(7, 5_000), (8, 5_000)]).main(), 8);
    let json = serde_json::to_string(&deployment).unwrap();
    assert_eq!(serde_json::from_str::<Deployment>(&json).unwrap(), deployment);
    assert_eq!(deployment.written(), "9 0 %, 8 10 %, 7 90 %");
}
