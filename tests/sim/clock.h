/* clock.h - virtual time for a whole cluster in one process: one order of events, and a clock door (base/doors.h) for
 * each simulated process, which may drift, be paused and be killed.
 *
 * A world runs events one after the other; an event takes no time. Processes are numbered 0 .. SIM_PROCS_MAX - 1 and
 * exist, running, from the first mention. Everything follows from the seed. */
#ifndef QFS_TESTS_SIM_CLOCK_H
#define QFS_TESTS_SIM_CLOCK_H

#include "base/base.h"

#define SIM_PROCS_MAX 64u

struct sim_world;

struct sim_world *sim_world_new(uint64_t seed);
/* Timers that are still armed are forgotten. Simulated nets and disks are freed before. */
void sim_world_free(struct sim_world *w);

/* True time, from 0. Processes do not see it. */
uint64_t sim_now(const struct sim_world *w);
/* Runs what comes next: one event or one timer. False: nothing is left to happen. */
bool sim_step(struct sim_world *w);
/* Runs all that happens up to a time; then it is that time. */
void sim_run_until(struct sim_world *w, uint64_t at);
/* Runs until `done` says true or the time is over. Returns what done said last. */
bool sim_run_while_not(struct sim_world *w, bool (*done)(void *arg), void *arg, uint64_t at);
uint64_t sim_steps(const struct sim_world *w);
/* A digest of everything that has happened so far, in its order: equal seeds have equal ones. */
uint64_t sim_digest(const struct sim_world *w);
/* Adds to the digest; for the other parts of the simulator. */
void sim_mix(struct sim_world *w, uint64_t what);

/* An event of the world itself (a nemesis, a message's arrival). The struct is the caller's; zero it first. */
struct sim_event {
    struct heap_node node;
    void (*run)(struct sim_event *e);
    void *arg;
};
void sim_at(struct sim_world *w, struct sim_event *e, uint64_t at); /* moves it where it is set already */
void sim_cancel(struct sim_world *w, struct sim_event *e);

/* ---- processes --- */

struct clock *sim_clock(struct sim_world *w, unsigned proc);

/* Dies: its timers are gone and arming does nothing until it is started again. What it owns can be freed meanwhile. */
void sim_kill(struct sim_world *w, unsigned proc);
/* The machine with it: nobody gets to know by a reset. */
void sim_power_off(struct sim_world *w, unsigned proc);
/* A new process under the old number. Its machine's clock has gone on. */
void sim_start(struct sim_world *w, unsigned proc);
/* As SIGSTOP and SIGCONT. */
void sim_pause(struct sim_world *w, unsigned proc, bool on);
bool sim_alive(const struct sim_world *w, unsigned proc); /* neither killed nor powered off */
bool sim_runs(const struct sim_world *w, unsigned proc);  /* alive and not paused */
bool sim_powered(const struct sim_world *w, unsigned proc);

/* From now on the monotonic clock goes wrong by so many parts in a million; |ppm| < 1000000. */
void sim_drift(struct sim_world *w, unsigned proc, int32_t ppm);
/* The wall clock differs from true time by so much from now on. */
void sim_wall_offset(struct sim_world *w, unsigned proc, int64_t ns);

/* The process whose timer or callback is running; -1: none. The simulated net says so for what it calls. */
int sim_running(const struct sim_world *w);
void sim_set_running(struct sim_world *w, int proc);

/* Called after a process changed its state; for the simulated net. One a world. */
void sim_on_change(struct sim_world *w, void (*changed)(void *arg, unsigned proc), void *arg);

#endif
