/* SPDX-License-Identifier: MIT */
#ifndef VMM_CORE_LOG_H
#define VMM_CORE_LOG_H

/*
 * One line each on stderr, "minivmm: " in front. Any thread, which waits half a second at most for
 * a reader who takes nothing.
 */
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level); /* before the first thread; WARN unless set */
void log_print(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_result(...) log_print(LOG_LEVEL_ERROR, __VA_ARGS__) /* what was asked for */
#define log_warn(...)   log_print(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)   log_print(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)  log_print(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * A warning about what a guest did, and may do again without end: the first ten for each `*told`,
 * which begins at 0 and is the caller's to keep for the whole run.
 */
void log_guest(unsigned *told, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints "fmt: strerror(error)" and returns -error: `return log_error(errno, "open %s", path);` */
int log_error(int error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same where the sentence already says what is wrong and strerror() would add nothing. */
int log_refuse(int error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * From now on the last thing that log_error() or log_refuse() had to say is in `text`, too, without
 * the program's name: for whoever reports a failure to a program. NULL: no more of that.
 */
#define LOG_REASON_SIZE 200
void log_keep_reason(char text[LOG_REASON_SIZE]);

#endif
