use super::*;

fn offered() -> Offered {
    Offered::from_help("      --steer <auto|local|hash|learn>\n          How packets", true)
}

fn rootless() -> Offered {
    Offered::from_help("--steer <auto|local|hash|learn>", false)
}

fn plan(wanted: &Wanted) -> Plan {
    wanted.plan(&offered()).expect("a plan")
}

fn names(setting: &Setting) -> Vec<&str> {
    setting.sides.iter().map(|side| side.name.as_str()).collect()
}

#[test]
fn steering_is_what_the_command_offers() {
    assert_eq!(offered().steering, ["local", "hash", "learn"]);
    assert_eq!(rootless().steering, ["learn"]);
    assert_eq!(Offered::from_help("no such option", true).steering, [""; 0]);
}

#[test]
fn quick_takes_less_than_three_minutes() {
    let plan = plan(&Wanted { quick: true, ..Wanted::default() });
    let duration = plan.duration(&plan.units());
    assert!(duration < 165.0, "{duration} s");
    assert!(plan.settings[0].rounds >= 5 && plan.name == "quick");
}

#[test]
fn the_whole_takes_less_than_ninety_minutes() {
    let plan = plan(&Wanted::default());
    let minutes = plan.duration(&plan.units()) / 60.0;
    assert!((45.0..85.0).contains(&minutes), "{minutes} minutes");
    assert_eq!(plan.name, "full");
}

#[test]
fn the_whole_has_every_condition_and_every_row() {
    let plan = plan(&Wanted::default());
    for mtu in [1500, 9000] {
        for (offload, roaming) in [(false, false), (false, true), (true, false), (true, true)] {
            let wanted = Conditions { mtu, offload, roaming, ..Conditions::usual() };
            let setting = plan.settings.iter().find(|setting| setting.conditions == wanted).expect("the condition");
            assert!(Row::STANDARD.iter().all(|row| setting.rows.contains(row)));
            let names = names(setting);
            assert!(["trust", "kernel", "ceiling-remote", "ceiling-local"].iter().all(|side| names.contains(side)));
        }
    }
    let first = names(&plan.settings[0]);
    for side in ["fused-local", "fused-hash", "fused-learn", "pipeline-hash", "smoltcp-1500-vnet", "ipstack"] {
        assert!(first.contains(&side), "{side}");
    }
    assert!(plan.settings.iter().any(|setting| setting.conditions.rootless));
    assert!(plan.settings.iter().any(|setting| setting.conditions.congestion.is_none()));
}

#[test]
fn peers_are_measured_under_the_usual_conditions_only() {
    let wanted = Wanted { mtu: vec![1500, 9000], roaming: vec![false, true], ..Wanted::default() };
    for setting in plan(&wanted).settings {
        let has = setting.sides.iter().any(|side| matches!(side.kind, Kind::Peer(_)));
        assert_eq!(has, setting.conditions == Conditions::usual(), "{}", setting.conditions.told());
    }
}

#[test]
fn without_bpf_nothing_needs_it() {
    let plan = Wanted::default().plan(&rootless()).expect("a plan");
    for setting in &plan.settings {
        assert!(names(setting).iter().all(|name| !name.contains("local") && !name.contains("hash")));
        assert!(setting.conditions.rootless);
    }
    let first = names(&plan.settings[0]);
    assert!(first.contains(&"ceiling-spread") && first.contains(&"ipstack"));
}

#[test]
fn each_side_is_first_equally_often_and_rounds_interleave() {
    let plan = plan(&Wanted { quick: true, rounds: Some(4), ..Wanted::default() });
    let units = plan.units();
    assert_eq!(units.len(), 20);
    let firsts: Vec<usize> = units.iter().step_by(5).map(|unit| unit.side).collect();
    assert_eq!(firsts, [0, 1, 2, 3]);
    assert!(units.windows(2).all(|pair| pair[0].round <= pair[1].round));
}

#[test]
fn what_is_named_is_what_is_left() {
    let words = |list: &[&str]| list.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let wanted = Wanted { rows: words(&["rr", "cr1"]), sides: words(&["trust", "ceiling"]), ..Wanted::default() };
    let narrowed = plan(&wanted);
    assert_eq!(narrowed.name, "selected");
    assert_eq!(names(&narrowed.settings[0]), ["trust", "ceiling-remote", "ceiling-spread", "ceiling-local"]);
    let rows: Vec<_> = narrowed.settings[0].rows.iter().map(|row| row.name()).collect();
    assert_eq!(rows, ["rr1", "rr32", "rr256", "cr1"]);
    for (rows, sides) in [(words(&["sideways"]), vec![]), (vec![], words(&["nobody"]))] {
        let wanted = Wanted { rows, sides, ..Wanted::default() };
        assert!(wanted.plan(&offered()).is_err_and(|why| why.contains("is called")));
    }
    let wanted = Wanted { serve: words(&["--workers", "1"]), quick: true, ..Wanted::default() };
    assert_eq!(plan(&wanted).settings[0].sides[0].kind, Kind::Engine(words(&["--workers", "1"])));
}

#[test]
fn a_plan_survives_being_written_down() {
    let plan = plan(&Wanted::default());
    let text = serde_json::to_string(&plan).expect("text");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("a plan"), plan);
}
