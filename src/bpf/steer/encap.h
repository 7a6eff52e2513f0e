/* IPv6-in-IPv6 and IPv4-in-IPv6 (RFC 2473): on, off, and to another node without taking it off.
 *
 * Why the last: bpf_skb_adjust_room refuses to encapsulate an skb that is marked as encapsulated (EALREADY), and the mark stays
 * after decapsulation on kernels before 2026. A node that forwards what arrives encapsulated therefore rewrites the outer header. */
#pragma once

#include "steer/packet.h"

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4 /* headers older than Linux 6.3; the loader asks the kernel at run time */
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

#define OUTER_BYTES ((__u32)sizeof(struct ipv6hdr))
#define OUTER_HOP_LIMIT 64

/* Jenkins' one-at-a-time over words: the flow label only has to spread flows over paths and receive queues. */
static __always_inline __u32 flow_hash(const struct gecko_flow_key *key)
{
	const __u32 *words = (const __u32 *)key;
	__u32 h = 0;

	for (int i = 4; i < 9; i++) { /* peer and ports; the local address is the same for everybody */
		h += words[i];
		h += h << 10;
		h ^= h >> 6;
	}
	h += h << 3;
	h ^= h >> 11;
	return h + (h << 15);
}

static __always_inline const struct gecko_node *node_of(__u32 index)
{
	const struct gecko_node *node = bpf_map_lookup_elem(&gecko_nodes, &index);
	const __u32 *words;

	if (!node)
		return 0;
	words = (const __u32 *)node->underlay;
	return words[0] | words[1] | words[2] | words[3] ? node : 0;
}

static __always_inline void fill_outer(struct ipv6hdr *outer, const struct packet *p, const struct gecko_node *source,
				       const struct gecko_node *target)
{
	const __u32 label = flow_hash(&p->key) & 0xfffff;

	/* Class as inside, ECN included (RFC 6040 normal mode). */
	outer->version = 6;
	outer->priority = p->traffic_class >> 4;
	outer->flow_lbl[0] = (p->traffic_class << 4 & 0xf0) | label >> 16;
	outer->flow_lbl[1] = label >> 8;
	outer->flow_lbl[2] = label;
	/* Zero above 64 KB: every segment it is cut into gets its own (BIG TCP). */
	outer->payload_len = p->length > 0xffff ? 0 : bpf_htons(p->length);
	outer->nexthdr = IS_V6(p) ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer->hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&outer->saddr, source->underlay, 16);
	__builtin_memcpy(&outer->daddr, target->underlay, 16);
}

/* One hop less, in a copy of the inner header's beginning. */
static __always_inline void decrement_hops(union ip_start *ip, const struct packet *p)
{
	if (IS_V6(p)) {
		ip->bytes[7]--;
	} else {
		/* RFC 1141: the checksum grows by what the word (TTL, protocol) lost; end-around carry, minus zero written as zero. */
		const __u32 sum = bpf_ntohs(ip->words[5]) + 0x100;

		ip->bytes[8]--;
		ip->words[5] = bpf_htons(sum + (sum >= 0xffff));
	}
}

/* The inner packet as it leaves: 1: it is being forwarded (one hop less), 0: it is our own. Writing headers in one piece is a
 * third of the price of writing them field by field. The skb needs an Ethernet header in front of l3. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct packet *p, __u32 self, __u32 to, int one_hop_less)
{
	const struct gecko_node *source = node_of(self), *target = node_of(to);
	struct {
		struct ipv6hdr outer;
		union ip_start inner;
	} head = {};
	__u32 at = p->l3;

	if (!source || !target || (p->length > 0xffff && !skb->gso_size))
		return -1;
	fill_outer(&head.outer, p, source, target);
	head.inner = p->start;
	if (one_hop_less)
		decrement_hops(&head.inner, p);
	if (p->outer)
		at -= OUTER_BYTES;
	/* FIXED_GSO: segments keep their size, the size check has already been made against it. */
	else if (bpf_skb_adjust_room(skb, OUTER_BYTES, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
		return -1;
	return bpf_skb_store_bytes(skb, at, &head, sizeof head, BPF_F_RECOMPUTE_CSUM) ? -1 : 0;
}

/* Before 6.3 adjust_room cannot turn an IPv6 skb into an IPv4 one; change_proto can, and takes 20 of the 40 bytes with it. */
static __always_inline int strip_outer(struct __sk_buff *skb, const struct packet *p)
{
	const struct gecko_config *c = config();
	/* NO_CSUM_RESET: the only checksum in the packet is that of the inner transport, and the NIC's verdict on it stays true. */
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;

	if (c && c->flags & GECKO_CONFIG_F_DECAP_FLAGS) {
		if (IS_V6(p))
			return bpf_skb_adjust_room(skb, -(__s32)OUTER_BYTES, BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_DECAP_L3_IPV6);
		return bpf_skb_adjust_room(skb, -(__s32)OUTER_BYTES, BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_DECAP_L3_IPV4);
	}
	if (IS_V6(p))
		return bpf_skb_adjust_room(skb, -(__s32)OUTER_BYTES, BPF_ADJ_ROOM_MAC, flags);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0))
		return -1;
	return bpf_skb_adjust_room(skb, -(__s32)(OUTER_BYTES - sizeof(struct iphdr)), BPF_ADJ_ROOM_MAC, flags);
}

#define ECN_CE 3

static __always_inline int decapsulate(struct __sk_buff *skb, struct packet *p)
{
	if (strip_outer(skb, p))
		return -1;
	p->outer = 0;
	p->l3 -= OUTER_BYTES;
	p->l4 -= OUTER_BYTES;
	if (!IS_V6(p)) {
		const __be16 type = bpf_htons(ETH_P_IP);

		if (bpf_skb_store_bytes(skb, p->l3 - 2, &type, sizeof type, 0))
			return -1;
	}
	/* Congestion seen on the node network belongs to the inner packet (RFC 6040 section 4.2). */
	if ((p->outer_class & 3) == ECN_CE)
		bpf_skb_ecn_set_ce(skb);
	count(GECKO_C_DECAPSULATED);
	return 0;
}

/* The hold device has no link layer, and both adjust_room's MAC mode and redirect_neigh want one. */
static __always_inline int add_ethernet(struct __sk_buff *skb, struct packet *p)
{
	const __be16 type = IS_V6(p) ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	if (bpf_skb_change_head(skb, ETH_HLEN, 0) || bpf_skb_store_bytes(skb, 12, &type, sizeof type, 0))
		return -1;
	p->l3 += ETH_HLEN;
	p->l4 += ETH_HLEN;
	return 0;
}
