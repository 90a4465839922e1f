use super::*;
use crate::command::control::protocol::Stage;

fn socket() -> Socket {
    let ms = tcp::Duration::from_millis;
    let info = Info {
        congestion: tcp::CongestionControl::Cubic,
        window_shifts: (7, 10),
        timestamps: true,
        sack: true,
        rto: tcp::Duration::from_micros(204_500),
        srtt: Some(ms(40)),
        rttvar: tcp::Duration::from_micros(1_250),
        min_rtt: Some(tcp::Duration::from_micros(39_001)),
        backoffs: 2,
        mss: 1_000,
        receive_mss: 1_448,
        cwnd: 20_500,
        ssthresh: 9_999,
        bytes_sent: 70_000,
        bytes_resent: 3_000,
        bytes_acked: 50_000,
        bytes_received: 12,
        flight: 20_001,
        lost: 1_000,
        sacked: 2_500,
        resent: 1,
        retransmits: 3,
        recovery: tcp::info::RecoveryCounts { dsacks: 1, ..Default::default() },
        reordering_seen: true,
        delivery_rate: Some(125_000),
        delivery_app_limited: true,
        busy: ms(2_000),
        rwnd_limited: ms(500),
        sndbuf_limited: tcp::Duration::from_micros(1_500),
        receive_buffer: 131_072,
        not_sent: 77,
        send_window: 64_512,
        receive_window: 65_000,
        ..Info::default()
    };
    Socket {
        id: "1c7.0".to_owned(),
        state: Stage::Established,
        shard: Some(1),
        local: "10.7.0.2:80".parse().expect("an address"),
        peer: "10.7.0.1:40000".parse().expect("an address"),
        recv_q: 0,
        send_q: 12_345_678,
        service: None,
        orphan: false,
        pmtu: 1_500,
        last_sent: Some(ms(7)),
        last_received: Some(tcp::Duration::from_micros(2_999)),
        info: Some(info),
    }
}

#[test]
fn words_are_those_of_ss_and_in_its_order() {
    let expected = "ts sack cubic wscale:7,10 rto:204.5 backoff:2 rtt:40/1.25 mss:1000 pmtu:1500 advmss:1448 cwnd:20 \
                    ssthresh:9 bytes_sent:70000 bytes_retrans:3000 bytes_acked:50000 bytes_received:12 \
                    send 4100000bps lastsnd:7 lastrcv:2 delivery_rate 1000000bps app_limited busy:2000ms \
                    rwnd_limited:500ms(25.0%) sndbuf_limited:1ms(0.1%) unacked:21 retrans:1/3 lost:1 sacked:3 \
                    dsack_dups:1 reord_seen:1 rcv_space:131072 notsent:77 minrtt:39.001 snd_wnd:64512 rcv_wnd:65000";
    assert_eq!(details(&socket()), expected);
    assert_eq!(details(&Socket { info: None, ..socket() }), "");
}

#[test]
fn columns_are_as_wide_as_what_is_in_them() {
    let mut table = Table::brief();
    let (one, other) = (socket(), Socket { peer: "[fd00::1]:1".parse().expect("an address"), ..socket() });
    for socket in [&one, &other] {
        table.widen(socket);
    }
    let text = table.header() + &table.row(&one) + &table.row(&other);
    let expected = "State      Recv-Q Send-Q   Local Address:Port Peer Address:Port Service Shard Id\n\
                    ESTAB      0      12345678 10.7.0.2:80        10.7.0.1:40000    -       1     1c7.0\n\
                    ESTAB      0      12345678 10.7.0.2:80        [fd00::1]:1       -       1     1c7.0\n";
    assert_eq!(text, expected);
}

#[test]
fn milliseconds_have_no_zeros_at_the_end() {
    for (nanos, text) in [(0, "0"), (1_000_000, "1"), (1_500, "0.002"), (204_000_000, "204"), (10_120_000, "10.12")] {
        assert_eq!(millis(tcp::Duration::from_nanos(nanos)), text);
    }
}

/// `connections` has them all, half-open ones included; TIME-WAIT stands beside.
#[test]
fn gauges_are_taken_apart() {
    let counters =
        serde_json::json!({"connections": 12, "half_open": 5, "connecting": 2, "orphans": 1, "time_wait": 9});
    let expected = Gauges { open: 7, half_open: 3, connecting: 2, orphans: 1, time_wait: 9 };
    assert_eq!(Gauges::read(&counters), expected);
}

#[test]
fn what_was_said_is_shown_when_the_answer_ends_early() {
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        ss: Ss,
    }
    let ss = Words::parse_from(["ss", "-b"]).ss;
    let filter = ss.filter().expect("no filter");
    for (answer, lines) in [(Answer::Socket(Box::new(socket())).line(), 2), (String::new(), 0)] {
        let mut output = Vec::new();
        let asked = crate::command::control::testing::answered(&answer, |mut client| {
            ss.show(&mut client, &filter, &mut output)
        });
        assert!(asked.expect_err("it hung up").to_string().contains("the engine has hung up"));
        let output = String::from_utf8(output).expect("text");
        assert_eq!(output.lines().count(), lines, "{output}");
    }
}
