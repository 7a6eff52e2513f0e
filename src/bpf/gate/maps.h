/* The gate's maps, and counting. Layouts: gate_shared.h. Maps keep their names: a later loader finds them by name. */
#pragma once

#include "packet/ip.h"

#include "bpf/gate_shared.h"

#ifndef GECKO_GATE_PLANT
#define GECKO_GATE_PLANT 0 /* tests compile the program with one of its rules broken, and must notice (gate_mutants.sh) */
#endif
#define PLANTED(n) (GECKO_GATE_PLANT == (n))

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_PORTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_group_key);
	__type(value, struct gecko_gate_port);
} gecko_gports SEC(".maps");

/* Never LRU: an evicted entry would silence a living connection. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, GECKO_MAX_GATED);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct gecko_flow_key);
	__type(value, struct gecko_gated);
} gecko_gated SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, GECKO_MAX_YOUNG);
	__type(key, struct gecko_flow_key);
	__type(value, struct gecko_young);
} gecko_young SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GECKO_MAX_GROUPS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct gecko_lease);
} gecko_leases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, GECKO_BIRTH_BYTES);
} gecko_births SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, GECKO_MOVED_BYTES);
} gecko_moved SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gecko_round);
} gecko_rounds SEC(".maps");

struct gecko_gate_counters {
	__u64 value[GECKO_G_COUNT];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gecko_gate_counters);
} gecko_gcounts SEC(".maps");

static __always_inline void count(enum gecko_gate_counter what)
{
	__u32 zero = 0;
	struct gecko_gate_counters *counters = bpf_map_lookup_elem(&gecko_gcounts, &zero);

	if (counters)
		counters->value[what]++;
}

/* Reports that a connection has moved, unless this round knows. To be called after a full barrier that follows what was noted: whoever begins
 * a round and then looks sees it, or is told again. */
static __always_inline void report_moved(const struct gecko_flow_key *key, __u32 *reported)
{
	__u32 zero = 0, now;
	const struct gecko_round *round = bpf_map_lookup_elem(&gecko_rounds, &zero);

	if (!round)
		return;
	now = *(volatile const __u32 *)&round->number;
	if (*(volatile __u32 *)reported == now)
		return;
	if (bpf_ringbuf_output(&gecko_moved, (void *)key, sizeof *key, 0)) {
		count(GECKO_G_MOVED_LOST); /* the next packet tries again */
		return;
	}
	if (!PLANTED(18))
		*(volatile __u32 *)reported = now;
}

/* The kernel hears that the packet did not leave (as of a full queue): it keeps unsent data unsent and tries again. */
static __always_inline int refuse(enum gecko_gate_counter why)
{
	count(why);
	return VERDICT_DROP;
}

/* The kernel believes it sent: a refused acknowledgement would be taken for congestion and shrink the window of what it sends. */
static __always_inline int swallow(enum gecko_gate_counter why)
{
	count(why);
	return TC_ACT_STOLEN;
}
