/* The maps, and counting. Layouts: steer_shared.h. Maps keep their names: a later loader finds the flow table of its
 * predecessor by name (steering.cc, adopt). */
#pragma once

#include "packet/ip.h"

/* Not preallocated: 262144 preallocated entries pin 33 MB on a node that may have ten connections. Never LRU: an evicted
 * entry would send a living connection to the wrong node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_FLOWS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_flow_key);
	__type(value, struct gecko_flow);
} gecko_flows SEC(".maps");

/* What a SYN alone has made is in a place of its own and LRU: SYNs cost their sender nothing, and must not crowd out what owners have said.
 * A flow that is displaced from here before its owner spoke is held and asked for, like every unknown one. Preallocated (as LRU has to
 * be): 7 MB. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, GECKO_MAX_NEW_FLOWS);
	__type(key, struct gecko_flow_key);
	__type(value, struct gecko_new_flow);
} gecko_news SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_PORTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_group_key);
	__type(value, struct gecko_group);
} gecko_groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_GROUPS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_ip);
	__type(value, struct gecko_address);
} gecko_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GECKO_MAX_GROUPS);
	__type(key, __u32);
	__type(value, struct gecko_slots);
} gecko_slots SEC(".maps");

/* Tables of single ports (GECKO_GROUP_F_PORT_SLOTS). Not preallocated: a table has 8 KB, and few ports need their own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_PORTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_group_key);
	__type(value, struct gecko_slots);
} gecko_port_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_NEARS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_near_key);
	__type(value, struct gecko_near);
} gecko_nears SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GECKO_MAX_NODES);
	__type(key, __u32);
	__type(value, struct gecko_node);
} gecko_nodes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_NODES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_ip);
	__type(value, struct gecko_underlay);
} gecko_underlays SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, GECKO_MAX_FRAGMENTS);
	__type(key, struct gecko_fragment_key);
	__type(value, struct gecko_fragment);
} gecko_frags SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gecko_config);
} gecko_config SEC(".maps");

struct gecko_counters {
	__u64 value[GECKO_C_COUNT];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gecko_counters);
} gecko_counts SEC(".maps");

static __always_inline void count(enum gecko_counter what)
{
	__u32 zero = 0;
	struct gecko_counters *counters = bpf_map_lookup_elem(&gecko_counts, &zero);

	if (counters)
		counters->value[what]++;
}

static __always_inline const struct gecko_config *config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&gecko_config, &zero);
}
