// Runs all tests of this folder inside a private user and network namespace; no root is needed.
#include <gtest/gtest.h>

#include "tcp/test_net.hh"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // Loaded before the user namespace is entered, where it may be refused; with --no-ebpf the classic filter is what runs.
  const bool classic = argc > 1 && std::string_view(argv[1]) == "--no-ebpf";
  if (!classic) gecko::tcp::prepare();
  if (const auto why_not = gecko::tcp::test::enter_private_namespaces(); !why_not.empty()) {
    std::printf("skipped: no private network namespace with TCP_REPAIR: %s\n", why_not.c_str());
    return 77;
  }
  return RUN_ALL_TESTS();
}
