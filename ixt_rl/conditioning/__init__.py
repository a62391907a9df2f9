"""The shared kernel: segments with roles become token sequences, padded or packed batches, and prompts.

    Segment... --build--> TokenSequence --pad / pack--> Batch (ids, positions, masks, roles, segments)

Every method conditions a model on side information; they differ in the segments, not in this code:
InTRO shows the answer in the prompt, IXT puts feedback before a document or in a system message,
SIP cuts a document into prefix and suffix.
"""

from ixt_rl.conditioning.batching import Batch, pack, pad
from ixt_rl.conditioning.conditioner import Conditioner
from ixt_rl.conditioning.ends import Ends, find_ends
from ixt_rl.conditioning.feedback import FeedbackTemplate, load_feedback_template, target_feedback
from ixt_rl.conditioning.options import Conditioning
from ixt_rl.conditioning.prompts import PromptTemplate, encode_prompt, load_template, row_ids
from ixt_rl.conditioning.sequences import (
    build,
    feedback_document,
    feedback_system_chat,
    prefix_suffix,
    prompt_completion,
)

__all__ = [
    "Batch",
    "Conditioner",
    "Conditioning",
    "Ends",
    "FeedbackTemplate",
    "PromptTemplate",
    "build",
    "encode_prompt",
    "feedback_document",
    "feedback_system_chat",
    "find_ends",
    "load_feedback_template",
    "load_template",
    "pack",
    "pad",
    "prefix_suffix",
    "prompt_completion",
    "row_ids",
    "target_feedback",
]
