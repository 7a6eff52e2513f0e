// sim_recovery_kill_points [--only TEXT] [--part K/N]: see kill_points.hh; options and exit codes in engine/kill_points.hh.
#include "sim/recovery/kill_points.hh"

int main(int argc, char** argv) { return gecko::sim::kill_points_main(argc, argv, 23, {1'200, 40'000}, gecko::sim::run_recovery_kill_points); }
