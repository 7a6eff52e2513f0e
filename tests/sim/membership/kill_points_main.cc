// sim_membership_kill_points [--only TEXT] [--part K/N]: see kill_points.hh; options and exit codes in engine/kill_points.hh.
#include "sim/membership/kill_points.hh"

int main(int argc, char** argv) { return gecko::sim::kill_points_main(argc, argv, 5, {1'000, 40'000}, gecko::sim::run_membership_kill_points); }
