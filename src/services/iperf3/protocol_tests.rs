//! Tests of the protocol's values, hostile input included.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const STOCK: &str = r#"{"tcp":true,"omit":0,"time":1,"num":0,"blockcount":0,"parallel":1,"len":131072,"pacing_timer":1000,"client_version":"3.12"}"#;

fn parse(text: &str) -> Result<Params, ServerError> {
    Params::parse(text.as_bytes())
}

#[test]
fn the_stock_clients_defaults() {
    let params = parse(STOCK).unwrap();
    assert_eq!(
        params,
        Params {
            omit: 0,
            time: 1,
            parallel: 1,
            reverse: false,
            bidirectional: false,
            len: 131_072,
            nodelay: false,
            bandwidth: 0,
            burst: 0,
            pacing_timer: 1000,
            fqrate: 0,
            server_output: false,
        }
    );
    assert_eq!(params.streams(), 1);
    assert!(!params.sends(0) && !params.sends_at_all());
}

#[test]
fn directions_by_order_of_opening() {
    let reverse = parse(r#"{"tcp":true,"reverse":true,"parallel":2}"#).unwrap();
    assert!(reverse.sends(0) && reverse.sends(1) && reverse.sends_at_all());
    let both = parse(r#"{"tcp":true,"bidirectional":true,"parallel":3}"#).unwrap();
    assert_eq!((0..both.streams()).map(|i| both.sends(i)).collect::<Vec<_>>(), [false, false, false, true, true, true]);
    assert!(!parse(r#"{"tcp":true,"reverse":false,"bidirectional":null}"#).unwrap().sends_at_all());
}

#[test]
fn ids_skip_two() {
    assert_eq!((0..5).map(stream_id).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
}

#[test]
fn numbers_in_any_clothes() {
    let params =
        parse(r#"{"tcp":1,"parallel":4.0,"len":1e3,"bandwidth":1e11,"omit":-1,"time":18446744073709551615}"#).unwrap();
    assert_eq!((params.parallel, params.len, params.bandwidth), (4, 1000, 100_000_000_000));
    assert_eq!((params.omit, params.time), (0, 86_400));
    let odd = parse(r#"{"tcp":true,"parallel":"many","len":[],"burst":1e300,"title":{"a":[1,2]}}"#).unwrap();
    assert_eq!((odd.parallel, odd.len, odd.burst), (1, DEFAULT_BLOCK, u32::MAX));
}

#[test]
fn what_cannot_be_served_is_refused_by_number() {
    assert_eq!(parse(r#"{"udp":true}"#), Err(ServerError::Protocol));
    assert_eq!(parse(r#"{"sctp":true}"#), Err(ServerError::Protocol));
    assert_eq!(parse("{}"), Err(ServerError::Protocol));
    assert_eq!(parse(r#"{"tcp":true,"parallel":129}"#), Err(ServerError::TooManyStreams));
    assert_eq!(parse(r#"{"tcp":true,"len":1048577}"#), Err(ServerError::BlockLength));
    for text in ["", "[]", "null", "{", "\"tcp\"", "{\"tcp\":true} x"] {
        assert_eq!(parse(text), Err(ServerError::Params), "{text}");
    }
    assert_eq!(Params::parse(b"{\"tcp\":\xff}"), Err(ServerError::Params));
    assert_eq!(ServerError::Protocol.encode(), [0xfe, 0, 0, 0, 131, 0, 0, 0, 0]);
}

#[test]
fn results_have_every_key_the_client_requires() {
    let params = parse(r#"{"tcp":true,"bidirectional":true}"#).unwrap();
    let streams =
        [StreamResult { octets: 10, retransmits: None }, StreamResult { octets: u64::MAX, retransmits: Some(3) }];
    let value = results(
        params.sends_at_all(),
        CongestionControl::Reno,
        CpuUse { user: 1.0, system: 2.0 },
        &streams,
        1.5,
        Some("text"),
    );
    for key in ["cpu_util_total", "cpu_util_user", "cpu_util_system", "sender_has_retransmits"] {
        assert!(value[key].is_number(), "{key}");
    }
    assert_eq!(value["sender_has_retransmits"], 1);
    assert_eq!(value["congestion_used"], "reno");
    assert_eq!(value["server_output_text"], "text");
    let list = value["streams"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    for (stream, id) in list.iter().zip([1, 3]) {
        for key in ["id", "bytes", "retransmits", "jitter", "errors", "packets"] {
            assert!(stream[key].is_number(), "{key}");
        }
        assert_eq!(stream["id"], id);
    }
    assert_eq!((&list[0]["retransmits"], &list[1]["retransmits"]), (&json!(-1), &json!(3)));

    let receiver =
        results(parse(STOCK).unwrap().sends_at_all(), CongestionControl::Cubic, CpuUse::default(), &[], 0.0, None);
    assert_eq!(receiver["sender_has_retransmits"], -1);
    assert!(receiver.get("server_output_text").is_none());
}

#[test]
fn client_results_with_a_wrapped_minus_one_pass() {
    assert!(results_acceptable(br#"{"sender_has_retransmits":18446744073709551615,"streams":[{"id":1}]}"#));
    assert!(!results_acceptable(b"[1]"));
    assert!(!results_acceptable(b"{"));
}

/// Feeds `input` in the pieces `cuts` asks for; yields the outcome and what was left over.
fn feed_in_pieces(reader: &mut BlobReader, mut input: &[u8], cuts: &[usize]) -> (Blob, Vec<u8>) {
    let mut cuts = cuts.iter().cycle();
    loop {
        let piece = (*cuts.next().unwrap()).clamp(1, input.len().max(1)).min(input.len());
        let (used, blob) = reader.feed(&input[..piece]);
        assert!(used <= piece);
        assert!(blob != Blob::Partial || used == piece, "a partial blob takes everything");
        input = &input[used..];
        if blob != Blob::Partial || input.is_empty() {
            return (blob, input.to_vec());
        }
    }
}

#[test]
fn an_empty_blob_is_complete_with_its_length() {
    assert_eq!(BlobReader::new(10).feed(&[0, 0, 0, 0, 9]), (4, Blob::Complete(vec![])));
}

#[test]
fn a_blob_over_the_limit_is_refused_before_it_is_stored() {
    let mut reader = BlobReader::new(PARAMS_MAX);
    assert_eq!(reader.feed(&[0, 0, 0x20]), (3, Blob::Partial));
    assert_eq!(reader.feed(&[1, b'{']), (1, Blob::TooLong));
    assert_eq!(BlobReader::new(PARAMS_MAX).feed(&[0xff; 9]), (4, Blob::TooLong));
}

proptest! {
    #[test]
    fn blobs_survive_any_segmentation(
        body in prop::collection::vec(any::<u8>(), 0..2000),
        tail in prop::collection::vec(any::<u8>(), 0..8),
        cuts in prop::collection::vec(1usize..300, 1..8),
    ) {
        let mut input = (body.len() as u32).to_be_bytes().to_vec();
        input.extend(&body);
        input.extend(&tail);
        let (blob, left) = feed_in_pieces(&mut BlobReader::new(2000), &input, &cuts);
        prop_assert_eq!(blob, Blob::Complete(body));
        prop_assert_eq!(left, tail);
    }

    #[test]
    fn no_octets_upset_the_blob_reader(
        input in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(1usize..50, 1..8),
        max in 0u32..300,
    ) {
        let _ = feed_in_pieces(&mut BlobReader::new(max), &input, &cuts);
    }

    #[test]
    fn no_octets_upset_the_params(input in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Params::parse(&input);
        let _ = results_acceptable(&input);
    }

    #[test]
    fn no_json_value_upsets_the_params(
        values in prop::collection::vec(("[a-z]{1,4}|tcp|omit|time|parallel|reverse|len|bandwidth|burst|fqrate|pacing_timer",
            "-?[0-9]{1,25}(\\.[0-9]{1,3})?(e[0-9]{1,3})?|true|null|\"x\"|\\[1\\]|\\{\\}"), 0..12),
    ) {
        let body: Vec<String> = values.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        if let Ok(params) = Params::parse(format!("{{{}}}", body.join(",")).as_bytes()) {
            prop_assert!((1..=128).contains(&params.parallel));
            prop_assert!((1..=1 << 20).contains(&params.len));
        }
    }
}

#[test]
fn parameters_read_back_as_written() {
    let params = Params {
        omit: 1,
        time: 5,
        parallel: 3,
        reverse: false,
        bidirectional: true,
        len: 4_096,
        nodelay: true,
        bandwidth: 100_000_000,
        burst: 2,
        pacing_timer: 1_000,
        fqrate: 7,
        server_output: true,
    };
    assert_eq!(parse(&params.to_json(0).to_string()), Ok(params));
    // By default as the stock client writes it.
    assert_eq!(parse(STOCK).unwrap().to_json(0), serde_json::from_str::<Value>(STOCK).unwrap());
}

#[test]
fn the_other_sides_results() {
    let ours = [StreamResult { octets: 7, retransmits: Some(2) }, StreamResult { octets: 9, retransmits: None }];
    let cpu = CpuUse { user: 1.5, system: 2.5 };
    let value = results(true, CongestionControl::default(), cpu, &ours, 1.0, None);
    let back = PeerResults::parse(value.to_string().as_bytes()).unwrap();
    assert_eq!((back.stream(1), back.stream(2), back.stream(3)), (Some(ours[0]), None, Some(ours[1])));
    assert_eq!(back.cpu, cpu);
    // Debian's server writes -1 so; the rest is nonsense that does no harm.
    let odd =
        br#"{"cpu_util_user":1e400,"streams":[{"id":1,"bytes":5.0,"retransmits":18446744073709551615},{"id":[]},7]}"#;
    match PeerResults::parse(odd) {
        None => {}
        Some(odd) => assert_eq!(odd.stream(1), Some(StreamResult { octets: 5, retransmits: None })),
    }
    let odd = br#"{"streams":[{"id":1,"bytes":5.0,"retransmits":18446744073709551615},{"id":[]},7]}"#;
    assert_eq!(PeerResults::parse(odd).unwrap().stream(1), Some(StreamResult { octets: 5, retransmits: None }));
    for wrong in [&b""[..], b"[]", b"{}", b"{\"streams\":1}", b"\xff"] {
        assert_eq!(PeerResults::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn cookies_are_made_of_stock_letters() {
    let cookie = Cookie::from_random(std::array::from_fn(|index| (index * 7) as u8));
    assert_eq!(cookie.0[COOKIE_LEN - 1], 0);
    assert!(cookie.0[..COOKIE_LEN - 1].iter().all(|letter| matches!(letter, b'a'..=b'z' | b'2'..=b'7')));
}
