/* A client that is ahead of its new node (docs/adr/0030). What a dead node had sent, its heir's program sends again. A client that
 * has some of that already, behind a hole, acknowledges it as soon as the hole is filled: more than the heir has sent, by which a
 * kernel knows a packet that is not of this connection (RFC 9293 section 3.10.7.4) and refuses it with all that come after it. So
 * what such a client acknowledges is lowered to what its new node has sent, until that has caught up. */
#pragma once

#include "steer/flow.h"

/* Where the next new byte of this machine's socket goes. 0: there is none that could say so. */
static __noinline int sent_here(struct __sk_buff *skb, const struct packet *p, __u32 *next)
{
	struct bpf_sock *sk = find_socket(skb, p);
	const struct bpf_tcp_sock *tcp;
	int found = 0;

	if (!sk)
		return 0;
	tcp = bpf_tcp_sock(sk);
	if (tcp) {
		*next = tcp->snd_nxt;
		found = 1;
	}
	bpf_sk_release(sk);
	return found;
}

/* Of a packet that is about to be passed up, to a connection that was recovered. */
static __always_inline void lower_ack(struct __sk_buff *skb, const struct packet *p)
{
	const __u32 at = p->l4 + __builtin_offsetof(struct tcphdr, ack_seq);
	__be32 acked, sent;
	__u32 next;

	if (!(p->tcp_flags & TCP_ACK) || p->tcp_flags & TCP_SYN || p->fragment != FRAGMENT_NONE || bpf_skb_load_bytes(skb, at, &acked, sizeof acked))
		return;
	if (!sent_here(skb, p, &next) || !after(bpf_ntohl(acked), next))
		return;
	/* Within what it may have been sent: not what somebody invents. */
	if (after(bpf_ntohl(acked), next + GECKO_AHEAD_MAX))
		return;
	sent = bpf_htonl(next);
	if (bpf_l4_csum_replace(skb, p->l4 + __builtin_offsetof(struct tcphdr, check), acked, sent, sizeof sent))
		return;
	bpf_skb_store_bytes(skb, at, &sent, sizeof sent, 0);
	count(GECKO_C_ACK_LOWERED);
}
