"""Vision-language and language models that transformers runs here: LLaVA, the Qwen-VL families, Llama, any chat model."""

import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..device import find_device
from .asking import Question
from .model_folder import WEIGHTS, fingerprint, model_folder

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOKENS_A_TAG, TOKENS_BESIDE = 12, 40  # of an answer: a tag of five words; a preamble, or JSON's marks
DESCRIPTION_TOKENS = 160


@dataclass(frozen=True)
class Loaded:
    model: Any
    processor: Any  # a processor, or a tokenizer
    tokenizer: Any
    sees: bool


_loaded: dict[tuple[str, str, str], Loaded] = {}  # by fingerprint, device and dtype


def unload_models() -> None:
    """Take every model's weights out of memory; the next question loads them again."""
    import torch

    if _loaded:
        logger.info("unloading the taggers' models")
        _loaded.clear()
        gc.collect()  # a model's parts refer to each other
        torch.cuda.empty_cache()


class TransformersModel:
    """A model of a local folder, or of the Hugging Face hub where `source` is no folder but an id such as owner/name.

    Its weights are loaded at the first question, and shared by all of the same source, device and dtype until
    `unload_models`. Where a GPU has no room for them beside those of others, they take the others' place. Answers are
    greedy: the same question has the same answer.
    """

    def __init__(
        self,
        source: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
        make_room: Callable[[int, str], None] = lambda size, device: None,
    ):
        """FileNotFoundError or ValueError, naming the source, where it is no model that can be trusted."""
        if find_spec("transformers") is None:
            raise ValueError("the transformers tagger needs transformers; run `pip install transformers`")
        self.folder, self.dtype, self.batch_size = model_folder(source), dtype, batch_size
        self._device, self._make_room = device, make_room
        self.fingerprint = fingerprint(self.folder)

    @cached_property
    def device(self) -> "torch.device":
        return find_device(self._device)

    def answer(self, questions: Sequence[Question]) -> list[str]:
        batches = [questions[at : at + self.batch_size] for at in range(0, len(questions), self.batch_size)]
        return [answer for batch in batches for answer in self._answer_batch(batch)]

    def _answer_batch(self, batch: Sequence[Question]) -> list[str]:
        import torch

        try:
            loaded = self._load()
            if not loaded.sees and any(question.image for question in batch):
                raise ValueError(
                    f"{self.folder} is a language model, which sees no pictures; choose a vision-language model"
                )
            inputs = {
                name: value.to(self.device, loaded.model.dtype if value.is_floating_point() else None)
                for name, value in _inputs(loaded, batch).items()
            }
            with torch.inference_mode():
                tokens = loaded.model.generate(**inputs, max_new_tokens=max(map(_most_tokens, batch)))
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{self.device} has no room for {self.folder} and {len(batch)} questions at a time; ask fewer at a time, "
                "or choose a smaller model"
            ) from error
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        return loaded.tokenizer.batch_decode(answers, skip_special_tokens=True)

    def _key(self) -> tuple[str, str, str]:
        return self.fingerprint, str(self.device), self.dtype

    def _load(self) -> Loaded:
        if self._key() not in _loaded:
            dtype = _torch_dtype(self.dtype, self.device)
            size = sum(path.stat().st_size for path in self.folder.glob(WEIGHTS))
            self._make_room(size, str(self.device))
            if _loaded and not _has_room(self.device, size):
                unload_models()
            logger.info("loading %s on %s in %s", self.folder.name, self.device, dtype)
            _loaded[self._key()] = _read(self.folder, self.device, dtype)
        return _loaded[self._key()]


def _torch_dtype(name: str, device: "torch.device") -> "torch.dtype":
    """That of the name; of "auto" what a GPU is quick in, bfloat16 where it has it, and float32 on a CPU."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if bfloat16 else torch.float16


def _has_room(device: "torch.device", size: int) -> bool:
    import torch

    return device.type != "cuda" or torch.cuda.mem_get_info(device)[0] > 1.2 * size


def _read(folder: Path, device: "torch.device", dtype: "torch.dtype") -> Loaded:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
        GenerationConfig,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    trusted = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **trusted)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind, reader = (AutoModelForImageTextToText, AutoProcessor) if sees else (AutoModelForCausalLM, AutoTokenizer)
        processor = reader.from_pretrained(folder, **trusted)
        model = kind.from_pretrained(
            folder, config=config, torch_dtype=dtype, use_safetensors=True, attn_implementation="sdpa", **trusted
        )
    except Exception as error:  # transformers' own are of many kinds
        raise ValueError(f"{folder} cannot be loaded by transformers: {error}") from error
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.padding_side = "left"  # so that every answer begins right after its question
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    return Loaded(model.eval().to(device), processor, tokenizer, sees)


def _inputs(loaded: Loaded, batch: Sequence[Question]) -> Any:
    """The questions as chat, tokenised, the shorter ones padded on their left."""
    texts = [_chat(loaded, question) for question in batch]
    begins = loaded.tokenizer.bos_token and texts[0].startswith(loaded.tokenizer.bos_token)
    options = {"padding": True, "return_tensors": "pt", "add_special_tokens": not begins}
    images = [image for question in batch for image in question.images]
    if images:
        return loaded.processor(text=texts, images=images, **options)
    return loaded.tokenizer(texts, return_token_type_ids=False, **options)


def _chat(loaded: Loaded, question: Question) -> str:
    """A question as the model's chat template writes it; without one, the bare prompt.

    An item's text cannot end its turn, or pretend to be a picture: the tokenizer's own marks are taken out of it.
    """
    prompt, template = question.prompt, loaded.processor.chat_template
    for mark in loaded.tokenizer.get_added_vocab():
        prompt = prompt.replace(mark, " ") if mark.strip() else prompt
    if template is None:
        return "".join(f"{loaded.processor.image_token}\n" for _ in question.images) + prompt
    parts = [{"type": "image"} for _ in question.images]
    content = [*parts, {"type": "text", "text": prompt}] if loaded.sees else prompt
    quick = {"enable_thinking": False} if "enable_thinking" in template else {}
    return loaded.processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, **quick
    )


def _most_tokens(question: Question) -> int:
    return TOKENS_A_TAG * question.tag_limit + TOKENS_BESIDE if question.tag_limit else DESCRIPTION_TOKENS
