#include "lab/link_rules.hh"

#include <gtest/gtest.h>

namespace gecko::lab {
namespace {

TEST(LinkRules, MarkWhereItComesInAndTurnWhereItWouldGoOut) {
  EXPECT_EQ(link_rules({{"client", "n1"}, {"n1", "client"}, {"n2", "n1"}}),
            "table netdev gecko-links\n"
            "delete table netdev gecko-links\n"
            "table netdev gecko-links {\n"
            "  chain from-client {\n    type filter hook ingress device \"clients\" priority 0\n    meta mark set 1\n  }\n"
            "  chain from-n1 {\n    type filter hook ingress device \"n1\" priority 0\n    meta mark set 2\n  }\n"
            "  chain from-n2 {\n    type filter hook ingress device \"n2\" priority 0\n    meta mark set 3\n  }\n"
            "  chain to-client {\n    type filter hook egress device \"clients\" priority 0\n    meta mark 2 fwd to \"n1-client\"\n  }\n"
            "  chain to-n1 {\n    type filter hook egress device \"n1\" priority 0\n    meta mark 1 fwd to \"client-n1\"\n"
            "    meta mark 3 fwd to \"n2-n1\"\n  }\n"
            "}\n");
}

TEST(LinkRules, NoneLeavesNothing) { EXPECT_EQ(link_rules({}), "table netdev gecko-links\ndelete table netdev gecko-links\n"); }

TEST(LinkRules, EveryDeviceHasANameTheKernelTakes) { EXPECT_LT(device_of({"client", "n64"}).size(), 16u); }

}  // namespace
}  // namespace gecko::lab
