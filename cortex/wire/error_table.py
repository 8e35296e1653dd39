"""What the codes of errors mean, for whoever renders them, reads them back, or describes them: DESIGN section 7, in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOON_S = 5.0


@dataclass(frozen=True, slots=True)
class Row:
    """`status`: where the error does not tell its own (an event of a stream, a load's end). `retry_after`: seconds; None: permanent."""

    status: int
    retry_after: float | None = None

    @property
    def type(self) -> str:
        """OpenAI's `error.type`."""
        return type_of(self.status)


def type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if 400 <= status < 500 else "api_error"


ROWS: Mapping[str, Row] = {
    # what was asked is wrong
    "malformed_json": Row(400),
    "missing_model_field": Row(400),
    "missing_model_id": Row(400),
    "invalid_request_body": Row(422),
    "body_too_large": Row(413),
    "headers_too_large": Row(431),
    "method_not_allowed": Row(405),
    "context_length_exceeded": Row(400),
    "unsupported_parameter": Row(400),
    "unsupported_setting": Row(400),
    "invalid_image_url": Row(400),
    "vision_unsupported": Row(400),
    "unsupported_tool": Row(400),
    "chained_conversation_not_supported": Row(400),
    "previous_response_not_found": Row(400),
    "responses_not_stored": Row(400),
    "item_not_found": Row(400),
    "unknown_harness": Row(400),
    "no_such_device": Row(400),
    "no_such_file": Row(400),
    "bad_file_name": Row(400),
    "bad_piece": Row(400),
    "piece_corrupt": Row(400),
    "range_not_satisfiable": Row(416),
    "wrong_modality": Row(422),
    "template_render_failed": Row(422),
    "no_chat_template": Row(400),
    "not_found": Row(404),
    "model_not_found": Row(404),
    "not_offered": Row(404),
    "not_begun": Row(404),
    # who asks may not
    "invalid_api_key": Row(401),
    "permission_denied": Row(403),
    "joining_off": Row(403),
    "repo_gated": Row(403),
    "rate_limit_exceeded": Row(429, SOON_S),
    "insufficient_quota": Row(429),
    # it cannot be done here
    "name_taken": Row(409),
    "file_conflict": Row(409),
    "file_changed": Row(409),
    "not_next": Row(409),
    "does_not_offer": Row(409),
    "does_not_accept": Row(409),
    "model_busy": Row(409),
    "unsupported_model": Row(422),
    "not_a_model": Row(422),
    "empty_repo": Row(422),
    "quant_not_found": Row(422),
    "cpu_unsupported": Row(422),
    "cuda_unsupported": Row(422),
    "harness_unusable": Row(422),
    "insufficient_storage": Row(507),
    # not now
    "service_unavailable": Row(503, SOON_S),
    "insufficient_vram": Row(503, SOON_S),
    "insufficient_memory": Row(503, SOON_S),
    "model_loading": Row(503, SOON_S),
    "hub_unreachable": Row(503, SOON_S),
    "being_brought": Row(503, 10.0),
    "sender_gone": Row(503, SOON_S),
    "draining": Row(503, SOON_S),
    "shutting_down": Row(503, 15.0),
    "load_timeout": Row(503, 30.0),
    "cuda_unavailable": Row(503, 30.0),
    "device_lost": Row(503, 30.0),
    # what stands behind failed
    "upstream_connection_error": Row(502, 2.0),
    "upstream_malformed_response": Row(502, 2.0),
    "upstream_read_failed": Row(502, 2.0),
    "engine_failed": Row(502, 2.0),
    "download_corrupt": Row(502, 2.0),
    "file_corrupt": Row(502, 2.0),
    "copy_failed": Row(502, 2.0),
    "upstream_timeout": Row(504, SOON_S),
    "cache_error": Row(500),
    "storage_failed": Row(500),
    "internal_server_error": Row(500),
}
