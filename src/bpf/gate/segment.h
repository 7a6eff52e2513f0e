/* One TCP segment that wants to leave, as far as the gate cares. */
#pragma once

#include "gate/maps.h"
#include "packet/extensions.h"

#define TCP_ECE 0x40

#define TCPOPT_EOL 0
#define TCPOPT_NOP 1
#define TCPOPT_SACK 5
#define TCPOPT_TIMESTAMP 8
#define TCPOLEN_TIMESTAMP 10
#define TCP_OPTIONS_MAX 40
/* NOP NOP TIMESTAMP 10: how Linux begins the options of every segment but a SYN. */
#define TIMESTAMP_LAYOUT 0x0101080a

struct segment {
	__u32 seq, end_seq; /* SYN and FIN count, as everywhere */
	__u32 ack;
	__u32 edge;         /* end of the window: ack + window */
	__u32 payload;
	__u32 ts_value, ts_echo;
	__u8 flags;
	__u8 has_timestamps;
	__u8 sack_at;       /* offset in the options; 0 with sack_bytes 0: none */
	__u8 sack_bytes;
	/* Of the socket that sends it, which is locked meanwhile: */
	__u8 snd_una_known;
	__u8 after_peer_fin; /* its acknowledgement includes the client's FIN */
	__u32 snd_una;
};

enum read_result {
	READ_TCP,
	READ_OTHER,      /* not TCP: none of our business */
	READ_UNREADABLE, /* TCP whose ports are not here (a fragment), or a chain of headers that cannot be followed */
};

/* Where the options are: timestamps | sack << 8 | its length << 16, each offset plus one, 0: not there. */
/* Not static: the verifier then looks at the loop once, and not again for every path that leads here. */
__noinline __u32 find_options(struct __sk_buff *skb, __u32 at, __u32 bytes)
{
	__u32 i = 0, found = 0;

	for (int n = 0; n < TCP_OPTIONS_MAX; n++) {
		__u8 option[2];

		if (i + 2 > bytes || bpf_skb_load_bytes(skb, at + i, option, sizeof option))
			return found;
		if (option[0] == TCPOPT_EOL)
			return found;
		if (option[0] == TCPOPT_NOP) {
			i++;
			continue;
		}
		if (option[1] < 2 || i + option[1] > bytes)
			return found;
		if (option[0] == TCPOPT_TIMESTAMP && option[1] == TCPOLEN_TIMESTAMP)
			found |= i + 1;
		if (option[0] == TCPOPT_SACK)
			found |= (i + 1) << 8 | option[1] << 16;
		i += option[1];
	}
	return found;
}

/* Finds the TCP header: p->l4. */
static __always_inline int locate_tcp(struct __sk_buff *skb, struct packet *p)
{
	if (IS_V6(p) && p->proto != IPPROTO_TCP) {
		struct walk w = { .offset = p->l4, .proto = p->proto };

		if (walk_extensions(skb, &w) || w.stop)
			return READ_UNREADABLE;
		p->l4 = w.offset;
		p->proto = w.proto;
		p->fragment = w.fragment;
	}
	if (p->proto != IPPROTO_TCP)
		return READ_OTHER;
	return p->fragment == FRAGMENT_NONE ? READ_TCP : READ_UNREADABLE;
}

/* The header without its options; the key becomes that of the flow (local: the group). */
static __always_inline int read_header(struct __sk_buff *skb, struct packet *p, struct tcphdr *tcp)
{
	const __u32 used = p->l4 - p->l3;

	if (p->length < used + sizeof *tcp || bpf_skb_load_bytes(skb, p->l4, tcp, sizeof *tcp))
		return -1;
	p->headers = used + tcp->doff * 4;
	if (tcp->doff < 5 || p->length < p->headers)
		return -1;
	p->tcp_flags = ((__u8 *)tcp)[13];
	return 0;
}

/* What is on no packet that leaves: how far the client has acknowledged, and that the FIN is in what we acknowledge. */
static __always_inline void read_socket(struct __sk_buff *skb, struct segment *s)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return;
	s->snd_una_known = 1;
	s->snd_una = tcp->snd_una;
	s->after_peer_fin = sk->state == BPF_TCP_CLOSE_WAIT || sk->state == BPF_TCP_LAST_ACK || sk->state == BPF_TCP_CLOSING;
}

static __always_inline void read_segment(struct __sk_buff *skb, const struct packet *p, const struct tcphdr *tcp, __u32 scale, struct segment *s)
{
	const __u32 options = p->l4 + sizeof *tcp, bytes = tcp->doff * 4 - sizeof *tcp;

	s->flags = p->tcp_flags;
	s->seq = bpf_ntohl(tcp->seq);
	s->ack = bpf_ntohl(tcp->ack_seq);
	/* The window of a SYN is not scaled. */
	s->edge = s->ack + ((__u32)bpf_ntohs(tcp->window) << (tcp->syn ? 0 : scale));
	s->payload = p->length - p->headers;
	s->end_seq = s->seq + s->payload + tcp->syn + tcp->fin;
	if (bytes >= 12) {
		__be32 words[3];

		if (!bpf_skb_load_bytes(skb, options, words, sizeof words) && words[0] == bpf_htonl(TIMESTAMP_LAYOUT)) {
			s->has_timestamps = 1;
			s->ts_value = bpf_ntohl(words[1]);
			s->ts_echo = bpf_ntohl(words[2]);
			if (bytes == 12)
				return;
		}
	}
	if (bytes) {
		const __u32 found = find_options(skb, options, bytes);

		if (!s->has_timestamps && (found & 0xff)) {
			__be32 words[2];

			if (!bpf_skb_load_bytes(skb, options + (found & 0xff) + 1, words, sizeof words)) {
				s->has_timestamps = 1;
				s->ts_value = bpf_ntohl(words[0]);
				s->ts_echo = bpf_ntohl(words[1]);
			}
		}
		if (found >> 16) {
			s->sack_at = (found >> 8 & 0xff) - 1;
			s->sack_bytes = found >> 16;
		}
	}
}
