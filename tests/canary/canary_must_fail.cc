// A test that must fail. It is built and run as every other one; CTest expects its failure, so a harness that cannot fail is found out.
#include <gtest/gtest.h>

TEST(Canary, MustFail) { EXPECT_EQ(1 + 1, 3) << "this failure is expected: it proves that a failing test is seen"; }
