/* trace.h - where components say what they do, in one line each, for `--trace`, the simulator and the log file. A sink
 * is handed in from outside; NULL is silence. */
#ifndef QFS_TRACE_H
#define QFS_TRACE_H

enum trace_level { TRACE_DEBUG, TRACE_INFO, TRACE_WARN, TRACE_ERROR };

struct trace {
    enum trace_level level;      /* lines below it are not formatted at all */
    void (*line)(void *arg, enum trace_level level, const char *text);
    void *arg;
};

/* Formats into a bounded buffer (longer lines are cut) and hands it to the sink. */
__attribute__((format(printf, 3, 4))) void trace_line(const struct trace *t, enum trace_level level, const char *fmt,
                                                      ...);

#define trace_debug(t, ...) trace_line(t, TRACE_DEBUG, __VA_ARGS__)
#define trace_info(t, ...) trace_line(t, TRACE_INFO, __VA_ARGS__)
#define trace_warn(t, ...) trace_line(t, TRACE_WARN, __VA_ARGS__)
#define trace_error(t, ...) trace_line(t, TRACE_ERROR, __VA_ARGS__)

#endif
