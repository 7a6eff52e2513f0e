/* Carrying a decision out. */
#pragma once

#include "steer/encap.h"
#include "steer/flow.h"

static __always_inline int drop(enum gecko_counter why)
{
	count(why);
	return VERDICT_DROP;
}

static __always_inline int do_pass(struct __sk_buff *skb, struct packet *p)
{
	if (p->outer && decapsulate(skb, p))
		return drop(GECKO_C_ENCAP_FAILED);
	return VERDICT_PASS;
}

static __always_inline int do_hold(struct __sk_buff *skb, struct packet *p)
{
	const struct gecko_config *c = config();

	if (!c || !c->hold_ifindex)
		return VERDICT_DROP;
	if (p->outer && decapsulate(skb, p))
		return drop(GECKO_C_ENCAP_FAILED);
	return bpf_redirect(c->hold_ifindex, 0);
}

/* A GSO packet leaves as segments: each of them must fit, not the whole. */
static __always_inline int too_big(const struct __sk_buff *skb, const struct packet *p, __u16 mtu)
{
	/* Not TCP (UDP segmentation): its header is 8 bytes. */
	const __u32 headers = p->headers ? p->headers : p->l4 - p->l3 + 8;
	const __u32 size = skb->gso_size ? skb->gso_size + headers : p->length;

	return mtu && size > mtu;
}

/* Out of `ifindex` to the node whose outer header the packet has. A neighbour is addressed directly; the route lookup of
 * bpf_redirect_neigh is a third of what forwarding a packet costs. */
static __always_inline int send_to_node(__u32 to, __u32 ifindex)
{
	const struct gecko_node *node = node_of(to);

	if (node && node->onlink_ifindex == ifindex) {
		struct bpf_redir_neigh next = { .nh_family = 10 /* AF_INET6 */ };

		__builtin_memcpy(next.ipv6_nh, node->underlay, 16);
		return bpf_redirect_neigh(ifindex, &next, sizeof next, 0);
	}
	return bpf_redirect_neigh(ifindex, 0, 0, 0);
}

/* Encapsulated to node `to` out of `ifindex`. The skb has an Ethernet header. */
static __always_inline int do_forward(struct __sk_buff *skb, struct packet *p, __u32 self, __u32 to, __u32 ifindex)
{
	if (p->hop_limit <= 1)
		return drop(GECKO_C_HOP_LIMIT);
	if (encapsulate(skb, p, self, to, 1))
		return drop(GECKO_C_ENCAP_FAILED);
	return send_to_node(to, ifindex);
}
