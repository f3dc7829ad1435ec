/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_MESSAGE_H
#define FIRMWARE_INIT_MESSAGE_H

/*
 * The agent's messages to the supervisor, as in job.h. `error` is a negative errno, or 0. `what` is
 * the text, `name` the object it is about, or "".
 */
struct message_sink {
    int port; /* JOB_PORT_AGENT; -1: not open yet */
    int log;  /* /dev/kmsg; -1: not open yet */
};

void message_send(const struct message_sink *sink, const char *word);
void message_send_number(const struct message_sink *sink, const char *word, long number);
void message_send_failed(const struct message_sink *sink, int status, int error);

/* Reports an error that does not prevent the command from running. */
void message_send_note(const struct message_sink *sink, int error, const char *what,
                       const char *name);

/* Writes to the kernel's log only. */
void message_log(const struct message_sink *sink, int error, const char *what, const char *name);

/* Reports an error of the agent to the port and the kernel's log: the supervisor ends the run. */
void message_send_error(const struct message_sink *sink, int error, const char *what,
                        const char *name);

/* The same, and ends the machine. */
_Noreturn void message_fail(const struct message_sink *sink, int error, const char *what,
                            const char *name);

/* Waits JOB_END_TIMEOUT_MS for the supervisor to end the machine, then powers off. */
_Noreturn void message_wait_for_end(void);

#endif
