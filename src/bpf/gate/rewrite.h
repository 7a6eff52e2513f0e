/* Writing other numbers into a segment. */
#pragma once

#include "gate/judge.h"

#define TCP_CHECK_AT 16

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* Selective acknowledgements tell of bytes above a lowered acknowledgement: to the client, everything between would look lost. */
static __always_inline int strip_sack(struct __sk_buff *skb, __u32 at, __u32 bytes, __u32 *difference)
{
	__u8 before[TCP_OPTIONS_MAX] = {}, nops[TCP_OPTIONS_MAX];
	__s64 diff;

	if (bytes < 2 || bytes > TCP_OPTIONS_MAX)
		return -1;
	asm volatile("" : "+r"(bytes)); /* what was just proved about it stays with the register */
	if (bytes < 2 || bytes > TCP_OPTIONS_MAX)
		return -1;
	if (bpf_skb_load_bytes(skb, at, before, bytes))
		return -1;
	__builtin_memset(nops, 0, sizeof nops);
	for (__u32 i = 0; i < TCP_OPTIONS_MAX; i++)
		if (i < bytes)
			nops[i] = TCPOPT_NOP;
	diff = bpf_csum_diff((__be32 *)before, sizeof before, (__be32 *)nops, sizeof nops, 0);
	if (diff < 0 || bpf_skb_store_bytes(skb, at, nops, bytes, 0))
		return -1;
	*difference = diff;
	return 0;
}

static __always_inline __u32 add(__u32 a, __u32 b)
{
	const __u32 sum = a + b;

	return sum + (sum < b);
}

/* The checksum is updated by the difference. Where the NIC computes it (CHECKSUM_PARTIAL), the helper knows and leaves it alone: it is
 * that of the pseudo header, in which nothing changes. A super-packet's header is copied to each of its segments. */
static __always_inline int clamp(struct __sk_buff *skb, const struct packet *p, const struct tcphdr *tcp, const struct segment *s,
				 struct announced a)
{
	struct {
		__be32 ack;
		__be16 flags; /* offset and flags: they stay */
		__be16 window;
	} was, is;
	__u32 difference;

	__builtin_memcpy(&was, (const __u8 *)tcp + 8, sizeof was);
	is = was;
	is.ack = bpf_htonl(a.ack);
	is.window = bpf_htons(a.window);
	difference = bpf_csum_diff((__be32 *)&was, sizeof was, (__be32 *)&is, sizeof is, 0);
	if (bpf_skb_store_bytes(skb, p->l4 + 8, &is, sizeof is, 0))
		return -1;
	if (s->sack_bytes && !PLANTED(9)) {
		__u32 sack;

		if (strip_sack(skb, p->l4 + sizeof *tcp + s->sack_at, s->sack_bytes, &sack))
			return -1;
		/* The checksum adds 16-bit words: what lies at an odd offset counts with its bytes exchanged. */
		difference = add(difference, s->sack_at & 1 ? (sack << 8 & 0xff00ff00) | (sack >> 8 & 0x00ff00ff) : sack);
	}
	if (PLANTED(10))
		return 0;
	return bpf_l4_csum_replace(skb, p->l4 + TCP_CHECK_AT, 0, difference, 0);
}

/* geckod's empty segment gets the connection's numbers. */
struct stub {
	struct tcphdr tcp;
	__be32 options[3];
};
_Static_assert(sizeof(struct stub) == GECKO_GATE_STUB_TCP, "as geckod sends it");

struct stub_numbers {
	struct announced announced;
	__u32 seq;
	__u32 ts_value, ts_echo;
	__u8 seen;
};

static __always_inline int fill_stub(struct __sk_buff *skb, const struct packet *p, const struct gecko_flow_key *key, const struct stub_numbers *n)
{
	struct stub stub = {};
	struct {
		struct gecko_flow_key key; /* both addresses: the prefix of mapped ones adds nothing to a sum */
		__be32 length;
	} pseudo = {};
	__u32 sum;

	stub.tcp.source = key->local_port;
	stub.tcp.dest = key->peer_port;
	stub.tcp.seq = bpf_htonl(n->seq);
	stub.tcp.ack_seq = bpf_htonl(n->announced.ack);
	stub.tcp.doff = sizeof stub / 4;
	stub.tcp.ack = 1;
	stub.tcp.ece = !!(n->seen & GECKO_GATE_SEEN_ECE);
	stub.tcp.window = bpf_htons(n->announced.window);
	if (n->seen & GECKO_GATE_SEEN_TIMESTAMPS) {
		stub.options[0] = bpf_htonl(TIMESTAMP_LAYOUT);
		stub.options[1] = bpf_htonl(n->ts_value);
		stub.options[2] = bpf_htonl(n->ts_echo);
	} else {
		__builtin_memset(stub.options, TCPOPT_NOP, sizeof stub.options);
	}
	__builtin_memcpy(pseudo.key.local, key->local, sizeof key->local);
	__builtin_memcpy(pseudo.key.peer, key->peer, sizeof key->peer);
	pseudo.length = bpf_htonl(sizeof stub + IPPROTO_TCP);
	sum = bpf_csum_diff(0, 0, (__be32 *)&pseudo, sizeof pseudo, 0);
	sum = bpf_csum_diff(0, 0, (__be32 *)&stub, sizeof stub, sum);
	stub.tcp.check = fold(sum);
	return bpf_skb_store_bytes(skb, p->l4, &stub, sizeof stub, 0);
}
