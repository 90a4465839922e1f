//! The status page: as text for people at a terminal, as HTML for those who ask for it, which browsers do.
//!
//! Must not contain: connections, heads.

use std::fmt::Write;

use crate::flow::Quad;

/// What the page tells.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// Seconds since the start.
    pub(super) up: u64,
    /// The date of the start.
    pub(super) since: &'a str,
    pub(super) shard: u16,
    pub(super) shards: u16,
    /// Connections that are open, and all there were.
    pub(super) open: usize,
    pub(super) accepted: u64,
    pub(super) requests: u64,
    /// The connection that asks: its ends, its smoothed round-trip time in milliseconds, its congestion window in octets.
    pub(super) quad: Quad,
    pub(super) rtt: f64,
    pub(super) cwnd: u32,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Page<'_> {
    pub(super) fn text(&self) -> String {
        let Self { up, since, shard, shards, open, accepted, requests, quad, rtt, cwnd } = self;
        format!(
            "trust {VERSION}: a TCP engine in user space\n\
             \n\
             up          {up} s, since {since}\n\
             shard       {shard} of {shards} (counts below are of this shard)\n\
             connections {open} open, {accepted} accepted\n\
             requests    {requests}\n\
             you         {} -> {}, rtt {rtt:.3} ms, congestion window {cwnd}\n\
             \n\
             GET  /bytes/N  N octets\n\
             POST /echo     what you send, up to 16 MiB or in chunks\n",
            quad.remote, quad.local,
        )
    }

    /// Static, in one piece: no script, and nothing else to be loaded. Numbers, dates and addresses need no escaping.
    pub(super) fn html(&self) -> String {
        let Self { up, since, shard, shards, open, accepted, requests, quad, rtt, cwnd } = self;
        let mut page = String::from(HEAD);
        // Writing to memory does not fail.
        let _ = write!(
            page,
            "<h1>trust <small>{VERSION}</small></h1>\n\
             <p>A TCP engine in user space. This page came through it.</p>\n\
             <h2>Shard {shard} of {shards}</h2>\n\
             <ul>\n\
             <li>open <b>{open}</b>\n\
             <li>accepted <b>{accepted}</b>\n\
             <li>requests <b>{requests}</b>\n\
             </ul>\n\
             <h2>Your connection</h2>\n\
             <ul>\n\
             <li>round trip <b>{rtt:.3} <small>ms</small></b>\n\
             <li>congestion window <b>{cwnd} <small>octets</small></b>\n\
             </ul>\n\
             <p><code>{} &rarr; {}</code></p>\n\
             <h2>More</h2>\n\
             <p><a href=\"/bytes/1000\">GET <code>/bytes/N</code></a> sends N octets, POST <code>/echo</code> what you send, up to 16 MiB or in chunks.</p>\n\
             <footer>Up {up} s, since {since}</footer>\n",
            quad.remote, quad.local,
        );
        page
    }
}

const HEAD: &str = "<!doctype html>\n\
<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
<title>trust</title>\n\
<style>\n\
:root{color-scheme:light dark;--line:light-dark(#ddd,#444);--soft:light-dark(#666,#aaa)}\n\
body{max-width:34rem;margin:3rem auto;padding:0 1rem;font:1rem/1.5 system-ui,sans-serif}\n\
h1{margin:0;font-size:2rem}h2{margin:2rem 0 .5rem;font-size:1rem}\n\
small,li,footer,h2{color:var(--soft);font-weight:400}small{font-size:.6em}\n\
ul{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:0;padding:0;list-style:none}\n\
li{padding:.5rem .75rem;border:1px solid var(--line);border-radius:.5rem;font-size:.85rem}\n\
b{display:block;color:CanvasText;font-size:1.6rem;font-weight:500;font-variant-numeric:tabular-nums}\n\
footer{margin-top:3rem;padding-top:.5rem;border-top:1px solid var(--line);font-size:.85rem}\n\
</style>\n";
