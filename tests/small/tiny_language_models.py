"""Language and vision-language models of a few layers in transformers' own architectures, as folders it reads.

Each has a tokenizer trained here, a chat template, and the real processor of its family. A model of random weights
answers nonsense; `teach` makes one give chosen answers, so that its tags can be told.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from iamg.scenarios import load_scenarios

PAD, START, END = "<pad>", "<s>", "</s>"
LLAVA_IMAGE = "<image>"
QWEN_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
VOCABULARY = 700
PICTURE = 32  # pixels a side, of LLaVA's image encoder
PATCH = 8
STEPS = 1000  # at most; some dozens do
LEARNT = 0.02  # nats a token: each of an answer's is the likeliest by far
LANGUAGE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 2048}

CHAT = """\
{% for message in messages %}[{{ message.role }}]
{% if message.content is string %}{{ message.content }}{% else %}\
{% for part in message.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}\
{% endif %}
{% endfor %}{% if add_generation_prompt %}[assistant]
{% endif %}"""


def write_llama(folder: Path, seed: int = 0, chat: bool = True) -> Path:
    """A Llama (Eq 3), two layers of width 32; without `chat`, its tokenizer has no chat template."""
    tokenizer = _tokenizer((), begins=True)
    if chat:
        tokenizer.chat_template = "{{ bos_token }}" + CHAT
    config = LlamaConfig(**LANGUAGE, **_heads(tokenizer))
    return _write(folder, _seeded(LlamaForCausalLM, config, seed), tokenizer)


def write_llava(folder: Path, seed: int = 0) -> Path:
    """A LLaVA-1.5 (Eq 2): CLIP's vision tower, 16 patches a picture, and a Llama."""
    tokenizer = _tokenizer((LLAVA_IMAGE,), begins=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=PICTURE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(**LANGUAGE, **_heads(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids(LLAVA_IMAGE),
        image_seq_length=(PICTURE // PATCH) ** 2,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": PICTURE}, crop_size={"height": PICTURE, "width": PICTURE}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{{ bos_token }}" + CHAT.replace("IMAGE", LLAVA_IMAGE),
    )
    return _write(folder, _seeded(LlavaForConditionalGeneration, config, seed), processor)


def write_qwen2_vl(folder: Path, seed: int = 0) -> Path:
    """A Qwen2-VL (Eq 2): pictures of any shape, one token for every 16 x 16 pixels."""
    tokenizer = _tokenizer(QWEN_VISION, begins=False)
    start, end, image, video = map(tokenizer.convert_tokens_to_ids, QWEN_VISION)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2VLConfig(
        text_config={**LANGUAGE, **_heads(tokenizer), "rope_parameters": rope},
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": PATCH},
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    pixels = {"patch_size": PATCH, "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**pixels),
        tokenizer,
        Qwen2VLVideoProcessor(**pixels),
        chat_template=CHAT.replace("IMAGE", "".join((QWEN_VISION[0], QWEN_VISION[2], QWEN_VISION[1]))),
    )
    return _write(folder, _seeded(Qwen2VLForConditionalGeneration, config, seed), processor)


Shown = Image.Image | tuple[Image.Image, ...] | None  # a picture, several, or none


def teach(folder: Path, examples: Sequence[tuple[Shown, str, str]]) -> None:
    """Train a model that was written above on (what is shown, prompt, answer), until it answers so; some seconds."""
    vision = any(shown is not None for shown, _, _ in examples)
    loader, reader = (AutoModelForImageTextToText, AutoProcessor) if vision else (AutoModelForCausalLM, AutoTokenizer)
    model, processor = loader.from_pretrained(folder).train(), reader.from_pretrained(folder)
    batches = [_example(processor, *example) for example in examples]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = [model(**batch).loss for batch in batches]
        sum(losses).backward()
        optimizer.step()
        if max(loss.item() for loss in losses) < LEARNT:
            break
    else:
        raise RuntimeError(f"{folder} has not learnt its answers in {STEPS} steps")
    model.save_pretrained(folder)


def _example(processor, shown: Shown, prompt: str, answer: str) -> dict[str, torch.Tensor]:
    """What a model is trained on: the prompt as chat, then the answer and its end, of which alone there is a loss."""
    if shown is None:
        message = {"role": "user", "content": prompt}
        begin = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        inputs = processor(begin + answer + END, return_tensors="pt", add_special_tokens=False)
        tokenizer = processor
    else:
        pictures = list(shown) if isinstance(shown, tuple) else [shown]
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": prompt}]
        message = {"role": "user", "content": content}
        begin = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        text = begin + answer + END
        inputs = processor(text=[text], images=pictures, return_tensors="pt", add_special_tokens=False)
        tokenizer = processor.tokenizer
    answered = len(tokenizer(answer + END, add_special_tokens=False)["input_ids"])
    labels = inputs["input_ids"].clone()
    labels[:, :-answered] = -100
    return {**inputs, "labels": labels}


def _tokenizer(special: Sequence[str], begins: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on the scenarios' prompts and vocabularies; one that `begins` puts START before a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    scenarios = load_scenarios().values()
    texts = [text for x in scenarios for text in (x.image_prompt, x.text_prompt, *x.vocabulary.values())]
    texts = [text if isinstance(text, str) else ", ".join(text) for text in texts]
    tokenizer.train_from_iterator(texts, trainer)
    if begins:
        start = (START, tokenizer.token_to_id(START))
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[start])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=START, eos_token=END)


def _heads(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The configuration's tokens, and two heads."""
    tokens = {"pad": PAD, "bos": START, "eos": END}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    return {"vocab_size": len(tokenizer), "num_attention_heads": 2, "num_key_value_heads": 1, **ids}


def _seeded(kind: type[PreTrainedModel], config, seed: int) -> PreTrainedModel:
    """Weights ten times as wide as transformers draws them, so that other prompts have other answers."""
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(10)
    return model


def _write(folder: Path, model: PreTrainedModel, processor) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
