// sim_handoff_kill_points [--only TEXT] [--part K/N]: see kill_points.hh; options and exit codes in engine/kill_points.hh.
#include "sim/handoff/kill_points.hh"

int main(int argc, char** argv) { return gecko::sim::kill_points_main(argc, argv, 1, {100, 600}, gecko::sim::run_kill_points); }
