//! The server stops, and other work of which there may be much: how much of it is done at a time.

use super::*;

/// SERVER_TERMINATE reaches a client that waits for a word, at every step, and no stream is reset before it.
#[test]
fn a_server_that_stops_tells_its_clients() {
    for seed in 0..20 {
        let mut net = net(3, seed);
        let mut asked = Test::open(&mut net, cookie(0), false);
        asked.expect(&mut net, &[9]);
        let mut connecting = Test::open(&mut net, cookie(1), false);
        connecting.expect(&mut net, &[9]);
        connecting.say(&mut net, &blob(&stock(json!({"parallel": 2}))));
        connecting.expect(&mut net, &[10]);
        let mut running = Test::begin(&mut net, 2, &stock(json!({"parallel": 3})), 3, false);
        let mut ending = Test::begin(&mut net, 3, &stock(json!({})), 1, false);
        ending.say(&mut net, &[4]);
        ending.expect(&mut net, &[13]);
        net.stop();
        for test in [&mut asked, &mut connecting, &mut running] {
            test.expect(&mut net, &[11]);
            assert!(net.got_fin(test.control), "nothing else comes");
        }
        ending.expect(&mut net, &[]);
        assert!(running.data.iter().all(|&stream| !net.got_reset(stream)));
    }
}

/// A crowd is told in pieces, and all are. Who is to bring the next call may go before it comes.
#[test]
fn a_server_that_stops_tells_a_crowd_bit_by_bit() {
    const CROWD: usize = 2 * budget::LOOKS + 50;
    for leaves in [false, true] {
        let mut net = net(1, 5);
        let mut tests: Vec<_> = (0..CROWD).map(|number| Test::open(&mut net, numbered_cookie(number), false)).collect();
        for test in &mut tests {
            test.expect(&mut net, &[9]);
        }
        net.stop();
        let told = |net: &Net<Iperf3>| CROWD - net.services[0].places.len();
        assert_eq!(told(&net), budget::LOOKS, "in one call");
        if leaves {
            let next = *net.services[0].untold.front().unwrap();
            let index = tests.iter().position(|test| net.id(test.control) == next).unwrap();
            let test = tests.remove(index);
            net.client_reset(test.control);
        }
        for test in &mut tests {
            test.expect(&mut net, &[11]);
            assert!(net.got_fin(test.control));
        }
        assert_eq!(told(&net), CROWD);
        assert!(net.most_sends() <= budget::LOOKS, "{} in one call", net.most_sends());
    }
}

/// A client that takes whatever comes does not have all of it in one go.
#[test]
fn a_stream_that_finds_room_sends_bit_by_bit() {
    let mut net = net(1, 6);
    // Of blocks of 128 KiB.
    let room = (3 * budget::STEPS) << 17;
    net.set_default_send_limit(room);
    let test = Test::begin(&mut net, 0, &stock(json!({"reverse": true})), 1, false);
    assert_eq!(net.waiting(test.data[0]), room, "as much as there is room for");
    // A word to the client is in the same call.
    assert!(net.most_sends() <= budget::STEPS + 1, "{} in one call", net.most_sends());
}
