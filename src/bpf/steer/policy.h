/* Which node gets a new connection: the slot table of its group, the nodes that serve its port, the nodes near its client. */
#pragma once

#include "steer/packet.h"

/* Of a table of which a sixteenth serves the port, 64 looks miss once in 60 SYNs; then `fallback` serves it. */
#define SLOT_LOOKS 64
/* One of so many goes by load alone: how far the other nodes are from its client is measured on it. */
#define EXPLORE_ONE_IN 16

static __always_inline int is_among(const __u64 *nodes, __u32 node)
{
	return nodes[node / 64 % GECKO_NODE_WORDS] >> node % 64 & 1;
}

static __always_inline __u64 mix(__u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* As in src/base/client_hash.hh: a handoff and a SYN must find the same node. */
static __always_inline __u64 client_hash(const __u8 *client)
{
	__u64 half[2];

	__builtin_memcpy(half, client, sizeof half);
	return mix(mix(bpf_be64_to_cpu(half[0]) + 0x9e3779b97f4a7c15ull) ^ bpf_be64_to_cpu(half[1]));
}

static __always_inline const struct gecko_near *near_nodes(__u32 group, const __u8 *client)
{
	struct gecko_near_key key = { .group = group };

	__builtin_memcpy(key.prefix, client, 16);
	if (is_v4_mapped(key.prefix))
		key.prefix[15] = 0;
	else
		__builtin_memset(key.prefix + 6, 0, 10);
	return bpf_map_lookup_elem(&gecko_nears, &key);
}

/* Whom a client's address belongs to depends on who serves the port: passing over slots would say another node than user space does. */
static __always_inline struct gecko_slots *slots_of(const struct gecko_group *group, const struct packet *p)
{
	__u32 index = group->index;
	struct gecko_group_key key = { .port = p->key.local_port };

	if (!(group->flags & GECKO_GROUP_F_PORT_SLOTS))
		return bpf_map_lookup_elem(&gecko_slots, &index);
	__builtin_memcpy(key.address, p->key.local, sizeof key.address);
	return bpf_map_lookup_elem(&gecko_port_slots, &key);
}

static __noinline __u32 choose_node(const struct gecko_group *group, const struct packet *p)
{
	const struct gecko_near *near = 0;
	struct gecko_slots *slots;
	__u32 index, start, found, seen = 0;

	if (!group || !p)
		return 0;
	index = group->index;
	found = group->fallback;
	slots = slots_of(group, p);
	if (!slots || !slots->count)
		return group->self;
	if (slots->mode == GECKO_SLOTS_CLIENT)
		start = client_hash(p->key.peer) % slots->count;
	else if (slots->mode == GECKO_SLOTS_ROUND_ROBIN)
		start = __sync_fetch_and_add(&slots->next, 1) % slots->count;
	else
		start = bpf_get_prandom_u32() % slots->count;
	if (slots->mode == GECKO_SLOTS_NEAREST && bpf_get_prandom_u32() % EXPLORE_ONE_IN)
		near = near_nodes(index, p->key.peer);
	for (__u32 i = 0; i < SLOT_LOOKS; i++) {
		/* Another turn instead of the neighbour: whoever comes after one that is passed over would get the turns of both. */
		if (i && slots->mode == GECKO_SLOTS_ROUND_ROBIN)
			start = __sync_fetch_and_add(&slots->next, 1) - i;
		const __u32 node = slots->node[(start + i) % slots->count & (GECKO_SYN_SLOTS - 1)];

		if (!is_among(group->serves, node))
			continue;
		if (!near || is_among(near->nodes, node))
			return node;
		if (!seen) {	/* should none of the near ones serve: shared among those that do */
			seen = 1;
			found = node;
		}
	}
	return near && is_among(group->serves, near->best) ? near->best : found;
}
