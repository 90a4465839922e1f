#![allow(clippy::unwrap_used)]
use super::*;

/// A connection of 10.7.0.2 as a test says: `STATE LOCAL PEER`.
fn socket(text: &str) -> Socket {
    let mut words = text.split(' ');
    let state = serde_json::from_value(words.next().unwrap().into()).unwrap();
    let (local, peer) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
    Socket {
        id: String::new(),
        state,
        shard: None,
        local,
        peer,
        recv_q: 0,
        send_q: 0,
        service: None,
        orphan: false,
        pmtu: 0,
        last_sent: None,
        last_received: None,
        info: None,
    }
}

/// Each filter lets just these through, and still does when it was written and read again.
#[test]
fn filters_mean_what_they_mean_to_ss() {
    let sockets = [
        "ESTAB 10.7.0.2:7 10.7.0.1:40000",        // 0
        "ESTAB 10.7.0.2:80 10.7.0.1:40001",       // 1
        "ESTAB 10.7.0.2:50000 192.0.2.1:80",      // 2
        "CLOSE-WAIT 10.7.0.2:7 10.7.0.9:1023",    // 3
        "SYN-SENT 10.7.0.2:50001 192.0.2.7:443",  // 4
        "SYN-RECV 10.7.0.2:7 10.7.0.1:40002",     // 5
        "TIME-WAIT 10.7.0.2:7 10.7.0.1:40003",    // 6
        "LISTEN 0.0.0.0:7 0.0.0.0:0",             // 7
        "ESTAB [fd00::2]:7 [fd00::1]:80",         // 8
        "FIN-WAIT-2 10.7.0.2:9 10.7.0.200:65535", // 9
    ]
    .map(socket);
    for (text, expected) in [
        ("", &[0, 1, 2, 3, 4, 8, 9][..]),
        ("state all", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("state established", &[0, 1, 2, 8]),
        ("state ESTABLISHED state close-wait", &[0, 1, 2, 3, 8]),
        ("exclude established exclude listening", &[3, 4, 5, 6, 9]),
        ("state connected exclude established", &[3, 4, 5, 6, 9]),
        ("state synchronized", &[0, 1, 2, 3, 5, 6, 8, 9]),
        ("state bucket", &[5, 6]),
        ("state big", &[0, 1, 2, 3, 4, 7, 8, 9]),
        ("state listening sport = :7", &[7]),
        ("sport = :7", &[0, 3, 8]),
        ("sport :7", &[0, 3, 8]),
        ("sport eq 7", &[0, 3, 8]),
        ("dport = :http", &[2, 8]),
        ("state established ( sport = :7 or dport = :http ) dst 10.7.0.1", &[0]),
        ("state established '(' sport = :7 or dport = :http ')'", &[]),
        ("(sport = :7 or dport = :http) and not dst 10.7.0.1", &[2, 3, 8]),
        ("dst 10.7.0.0/24", &[0, 1, 3, 9]),
        ("dst = 10.7.0.1:40000", &[0]),
        ("dst 10.7.0.0/24:40000", &[0]),
        ("src :7 dst :80", &[8]),
        ("src *:7", &[0, 3, 8]),
        ("dst *", &[0, 1, 2, 3, 4, 8, 9]),
        ("dst [fd00::1]:80", &[8]),
        ("src fd00::2", &[8]),
        ("dst fd00::/16", &[8]),
        ("dst 0.0.0.0/0", &[0, 1, 2, 3, 4, 9]),
        ("dport >= :40001", &[1, 9]),
        ("dport > :40000", &[1, 9]),
        ("dport <= :80", &[2, 8]),
        ("dport lt :81", &[2, 8]),
        ("dport != :80 and sport ne :7", &[1, 4, 9]),
        ("! sport = :7", &[1, 2, 4, 9]),
        // From left to right: this is (7 or 80) and 40001, and not 7 or (80 and 40001).
        ("sport = :7 or sport = :80 and dport = :40001", &[1]),
        ("sport = :80 dport = :40001 | sport = :9", &[1, 9]),
        // The one term behind it.
        ("not sport = :7 or dport = :40000", &[0, 1, 2, 4, 9]),
        ("not ( sport = :7 or dport = :40001 )", &[2, 4, 9]),
        ("not not sport = :9", &[9]),
    ] {
        if text.contains('\'') {
            // A shell takes the quotes away; here they are part of a word.
            assert!(Filter::parse(text, States::USUAL).is_err(), "{text}");
            continue;
        }
        let filter = Filter::parse(text, States::USUAL).unwrap_or_else(|error| panic!("{text}: {error}"));
        let let_through = |filter: &Filter| -> Vec<_> {
            sockets.iter().enumerate().filter(|(_, socket)| filter.matches(socket)).map(|(index, _)| index).collect()
        };
        assert_eq!(let_through(&filter), expected, "{text}");
        let again = Filter::parse(&filter.to_string(), States::ALL).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(let_through(&again), expected, "{text}: {filter}");
    }
}

/// An engine is sent what was understood, with a parenthesis for each term but one.
#[test]
fn a_filter_of_as_many_terms_as_there_may_be_is_understood_as_it_is_sent() {
    let text = "dport != :80 or ".repeat(127) + "dport != :81";
    let filter = Filter::parse(&text, States::USUAL).unwrap();
    assert_eq!(Filter::parse(&filter.to_string(), States::USUAL).unwrap().to_string(), filter.to_string());
}

#[test]
fn filters_that_make_no_sense_are_refused_with_the_reason() {
    let deep = "( ".repeat(300) + "sport = :7" + &" )".repeat(300);
    let long = "sport = :7 ".repeat(200);
    for (text, why) in [
        ("state", "state: a state is missing"),
        ("state opened", "\"opened\" is no state; there are established, syn-sent"),
        ("sport", "sport: a value is missing"),
        ("sport =", "sport: a value is missing"),
        ("sport = :nosuchservice", "\"nosuchservice\" is no port"),
        ("sport = :65536", "\"65536\" is no port"),
        ("dst", "dst: a value is missing"),
        ("dst host.example", "\"host.example\" is no address"),
        ("dst 10.7.0.0/33", "a prefix of 33 bits"),
        ("dst :", "is no port"),
        ("( sport = :7", "a ) is missing"),
        ("sport = :7 )", "\")\" begins no term"),
        ("sport = :7 or", "a term is missing"),
        ("port = :7", "\"port\" begins no term"),
        ("sport = :7 -b", "-b: options go before the filter"),
        ("state established --json", "--json: options go before the filter"),
        ("dport = --control", "--control: options go before the filter"),
        ("sport = :7 state established", "states stand at the beginning"),
        ("dev eth0", "dev: a connection here has none"),
        (&deep, "more than 128 terms"),
        (&long, "more than 128 terms"),
    ] {
        let error = Filter::parse(text, States::USUAL).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}
