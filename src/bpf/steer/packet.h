/* The group's address that a packet is for or from. */
#pragma once

#include "packet/ip.h"
#include "steer/maps.h"

static __always_inline struct gecko_address *find_address(const __u8 *address)
{
	return bpf_map_lookup_elem(&gecko_addresses, address);
}
