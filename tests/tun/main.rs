//! The command as users run it, on a real TUN device, with the stock programs that people point at it.
//!
//! Each test has a network namespace of its own (as root, or when this whole binary runs under `unshare -Urn`). What
//! cannot be done here, for want of a right or a program, is reported as ignored with the reason; `TRUST_REQUIRE_TUN=1`
//! makes that a failure. `TRUST_SOAK=1` takes the full sizes.

#![allow(clippy::unwrap_used, missing_docs)]

mod applications;
mod basics;
mod capture;
mod captured;
mod combinations;
mod connect;
mod control;
mod crowd;
mod drain;
mod fence;
mod fetch;
mod forward;
mod fragments;
mod hostile;
mod http;
mod iperf;
mod iperf_client;
mod ipv6;
mod keepalive;
mod lifecycle;
mod loss;
mod mtu;
mod nat;
// Shared with other tests: not all of it is used here.
#[allow(dead_code)]
#[path = "../netns/mod.rs"]
mod netns;
mod outputs;
mod paths;
mod relay;
mod stopped;
#[path = "../crowd/mod.rs"]
mod streams;
mod support;
mod waking;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use support::{need, soak};

fn main() -> ExitCode {
    let given = Arguments::from_args();
    let with_threads = |count| Arguments { test_threads: given.test_threads.or(Some(count)), ..given.clone() };
    // On lossy links they wait for timers nearly all of the time.
    let lossy = libtest_mimic::run(&with_threads(8), loss::trials());
    // What an engine says, gives up, or does when something ends: they wait for each other's words more than they compute.
    let waiting = vec![
        trial("ping_is_answered", basics::ping),
        trial("closed_port_is_refused_at_once", basics::closed_port),
        trial("daytime_discard_chargen", basics::small_services),
        trial("impossible_combinations_are_refused_in_one_line", combinations::impossible),
        trial("iperf3_server_terminates", iperf::server_terminates),
        trial("http_pages_heads_and_refusals", http::pages),
        trial("http_echo_refuses_what_is_too_large", http::too_large),
        trial("http_slow_head_is_given_up", http::slow_head),
        trial("connect_is_exact_both_ways", connect::both_ways),
        trial("connect_half_closed_is_exact", connect::half_closed),
        trial("connect_is_refused_at_once", connect::refused),
        trial("connect_is_reset", connect::reset),
        trial("connect_tells_that_its_input_failed", connect::input_that_fails),
        trial("connect_says_that_nobody_answers", connect::silence),
        trial("connect_says_that_nothing_is_forwarded", connect::not_forwarded),
        trial("fetch_from_python_is_exact", fetch::python),
        trial("fetch_refusals_take_one_line", fetch::refusals),
        trial("fetch_and_connect_end_quietly_when_nobody_reads", fetch::into_head),
        trial("fetch_notices_broken_servers", fetch::broken_servers),
        trial("iperf3_client_failures", iperf_client::failures),
        trial("forward_half_closed_both_ways", forward::half_closed),
        trial("forward_refusals_take_one_line", forward::refusals),
        trial("forward_needs_open_files_and_says_how_many", relay::open_files),
        trial("forward_places_of_the_vanished_are_free_again", relay::vanished),
        trial("forward_ssh_session_and_file_copy", forward::secure_shell),
        trial("control_ss_shows_the_connections_of_the_test", control::connections),
        trial("control_ss_shows_states", control::states),
        trial("control_kill_resets_those_and_no_other", control::kill),
        trial("control_socket_is_private_and_goes_with_its_engine", control::socket),
        trial("control_survives_garbage_and_stalled_readers", control::garbage),
        trial("control_metrics_are_scraped_over_the_device", control::metrics),
        trial("control_an_idle_scraper_does_not_hold_up_the_drain", control::idle_scraper),
        trial("control_and_counters_agree_on_a_lossy_transfer", control::losses),
        trial("control_is_found_in_its_usual_place", control::usual_place),
        trial("fence_is_around_every_thread_fused", fence::around_fused),
        trial("fence_is_around_every_thread_pipeline", fence::around_pipeline),
        trial("fence_off_keeps_every_right", fence::off),
        trial("fence_names_are_looked_up_for_forward_and_reverse", fence::forward_by_name),
        trial("fence_names_are_looked_up_again_when_there_are_threads", fence::forward_by_name_without_threads),
        trial("fence_a_stopped_helper_goes_with_its_engine", fence::stopped_helper),
        trial("fence_an_engine_without_its_helper", fence::without_its_helper),
        trial("fence_clients_follow_redirections_to_names", fence::redirected_to_a_name),
        trial("fence_clients_have_one_too", fence::clients),
        trial("fence_goes_on_as_the_user_that_is_named", fence::user),
        trial("fence_refusals_take_one_line", fence::refusals),
        trial("fence_leaves_no_descriptor_of_the_callers", fence::descriptors),
        trial("fence_without_seccomp_and_landlock_is_said", fence::old_kernel),
        trial("fence_engine_dies_with_its_parent_all_the_same", fence::parents_death),
        trial("nat_through_routers_is_exact_and_undone", nat::through_routers),
        trial("nat_ssh_through_routers", nat::secure_shell),
        trial("nat_by_ipv6_is_exact_and_undone", nat::by_ipv6),
        trial("nat_refuses_what_is_in_the_way", nat::refusals),
        trial("ipv6_first_contact_is_answered_and_quiet", ipv6::first_contact),
        trial("ipv6_our_own_commands_are_exact", ipv6::outwards),
        trial("ipv6_forward_and_reverse_cross_families", ipv6::forwarded),
        trial("ipv6_dead_address_costs_a_quarter_of_a_second", ipv6::dead_address),
        trial("ipv6_without_it_in_the_kernel_is_said", ipv6::without),
        trial("path_mtu_a_narrow_link_of_1280_is_told", paths::told_1280),
        trial("path_mtu_a_narrow_link_of_1400_is_told", paths::told_1400),
        trial("path_mtu_a_narrow_link_of_1280_is_found", paths::silent_1280),
        trial("path_mtu_a_narrow_link_of_1400_is_found", paths::silent_1400),
        trial("path_mtu_on_the_way_of_our_client", paths::client),
        trial("fragments_of_large_pings_are_joined", paths::fragments),
        trial("fragments_of_large_pings_of_ipv6_are_joined", fragments::pings_of_ipv6),
        trial("fragments_that_come_to_nothing_are_told", fragments::answers),
        trial("icmp_what_routers_refuse_ends_an_open_at_once", paths::refusals),
        trial("keep_alive_must_24_kernel_answers_and_silence", keepalive::silence),
        trial("term_ends_it_cleanly", lifecycle::term),
        trial("int_ends_it_cleanly", lifecycle::int),
        trial("drain_finishes_answers", drain::answers),
        trial("drain_by_each_signal_until_the_last_connection_or_another_signal", drain::signals),
        trial("drain_ends_when_its_time_is_up", drain::limit),
        trial("drain_carries_forwarded_connections_on", drain::forwards),
        trial("ports_are_given_to_other_services", lifecycle::ports),
        trial("killed_hard_leaves_nothing", lifecycle::killed),
        trial("second_engine_is_refused", lifecycle::second_engine),
        trial("lifecycle_refusals_take_one_line", lifecycle::refusals),
        trial("lifecycle_only_a_tun_device_is_to_be_removed", lifecycle::taken_names),
        trial("lifecycle_low_limits_are_refused_at_the_start", lifecycle::limits),
        trial("lifecycle_run_sh_refuses_in_one_line", lifecycle::run_sh),
        trial("lifecycle_resets_of_iperf3_are_explained", lifecycle::resets),
        trial("outputs_that_fail_or_are_not_read_stop_no_engine", outputs::serve),
        trial("outputs_that_fail_or_are_not_read_end_clients_in_order", outputs::clients),
        trial("unprivileged_serves", lifecycle::unprivileged),
    ];
    let waiting = libtest_mimic::run(&with_threads(5), waiting);
    let mut trials = vec![
        trial("bulk_through_echo_is_exact", basics::bulk_echo),
        trial("iperf3_plain", iperf::plain),
        trial("iperf3_reverse", iperf::reverse),
        trial("iperf3_8_streams", iperf::eight),
        trial("iperf3_8_streams_both_ways", iperf::eight_both_ways),
        trial("iperf3_64_streams", iperf::sixty_four),
        trial("iperf3_reverse_paced", iperf::paced),
        trial("iperf3_server_output", iperf::server_output),
        trial("header_prediction_takes_bulk_transfers", iperf::header_prediction),
        trial("http_bytes_are_exact", http::bytes),
        trial("http_echo_is_exact", http::echo),
        trial("http_echo_takes_bodies_whole", http::echo_whole),
        trial("http_ab_keeps_connections", http::ab),
        trial("http_wrk_256_connections", http::wrk),
        // Large, and not on every machine: it is not asked for, but used where it is.
        trial("http_chromium_shows_the_status_page", http::chromium)
            .with_ignored_flag(need(&["chromium"]).is_err() && !soak()),
        trial("hyper_wrk_256_connections", applications::hyper_wrk),
        trial("hyper_curl_is_exact", applications::hyper_curl),
        trial("echo_sockets_is_exact", applications::echo_sockets),
        trial("tokio_streams_between_two_engines", applications::two_engines),
        trial("addresses_of_the_builder_are_reached", applications::builder_addresses),
        trial("ipv6_every_device_is_exact", ipv6::every_device),
        trial("ipv6_iperf3", ipv6::iperf3),
        trial("ipv6_curl_is_exact", ipv6::curl),
        trial("ipv6_local_births_leave_nothing", ipv6::local_births),
        trial("iperf3_client_all_directions", iperf_client::all_directions),
        trial("iperf3_client_amounts_and_rates", iperf_client::amounts_and_rates),
        trial("iperf3_client_text", iperf_client::text),
        trial("fragments_tcp_in_pieces_is_exact", fragments::tcp_in_pieces),
        trial("mtu_of_the_device_is_followed", mtu::changes),
        trial("forward_is_exact_on_many_connections", forward::both_ways),
        trial("forward_carries_resets_over", forward::resets),
        trial("forward_stalled_readers_stop_the_other_end", forward::back_pressure),
        trial("forward_pieces_do_not_wait_for_acks", relay::pieces),
        trial("forward_http2_streams_do_not_stall", relay::http2),
        trial("forward_1000_clients_while_stopped", relay::crowd),
        trial("forward_failures_are_said_once_a_second", relay::failures),
        trial("clients_1000_at_once", crowd::thousand_clients),
        trial("clients_1000_at_once_200_killed_midway", crowd::thousand_clients_200_killed),
        trial("stalled_readers_slow_nobody", crowd::stalled_readers),
        trial("short_connections_are_never_refused", crowd::short_connections),
        trial("local_births_leave_nothing", crowd::local_births),
        trial("local_births_of_one_sender_are_shared", crowd::one_sender_many_flows),
        trial("capture_of_a_transfer_is_clean", capture::clean),
        trial("capture_shows_broken_packets", capture::broken),
        trial("captured_packets_are_those_of_the_engine", captured::whole),
        trial("captured_files_follow_each_other", captured::rotated),
        trial("captured_again_and_dropped_say_why", captured::explained),
        trial("captured_by_one_who_stalls_is_told_as_missed", captured::stalled),
        trial("captured_into_a_full_file_is_said_and_harms_nothing", captured::full),
        trial("captured_from_the_start", captured::from_the_start),
        trial("captured_refused_leaves_files_as_they_were", captured::refused),
        trial("captured_for_nobody_ends", captured::unread),
        trial("captured_as_by_nohup_outlives_the_terminal", captured::hung_up),
        trial("events_add_up_to_what_connections_count", captured::events),
        trial("events_are_told_to_the_end_of_the_engine", captured::last_events),
        trial("lifecycle_what_is_left_behind_is_found", lifecycle::leftovers),
        trial("idle_connections_cost_nothing_fused", lifecycle::idle_fused),
        trial("idle_connections_cost_nothing_pipeline", lifecycle::idle_pipeline),
        trial("stopped_in_a_download_goes_on_fused", stopped::fused),
        trial("stopped_in_a_download_goes_on_pipeline", stopped::pipeline),
        trial("no_event_is_slept_through_beside_busy_cpus_fused", waking::fused),
        trial("no_event_is_slept_through_beside_busy_cpus_pipeline", waking::pipeline),
    ];
    trials.extend(combinations::trials());
    trials.extend(hostile::trials());
    // Each of these takes all the processors that there are: more at once only wait for each other.
    let others = libtest_mimic::run(&with_threads(2), trials);
    hostile::print_table();
    [lossy, waiting, others].iter().find(|run| run.has_failed()).map_or(ExitCode::SUCCESS, |run| run.exit_code())
}

fn trial(name: &str, test: fn() -> support::Outcome) -> Trial {
    netns::trial_or_skip(name, test)
}
